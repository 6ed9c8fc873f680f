// softmax {'rows': 1}, grid (6, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void softmax_log(__global const float *restrict x, __global float *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = begin + 1 < 6 ? begin + 1 : 6;
  for (int row = begin; row < end; ++row) {
    const int at = row / 3 * 15 + row % 3;
    __global const float *restrict xp = x + at;
    __global float *restrict yp = y + at;
    float top = xp[0], sum = 0.0f;
    for (int i = 0; i < 5; ++i) top = top > xp[i * 3] ? top : xp[i * 3];
    for (int i = 0; i < 5; ++i) sum += exp(xp[i * 3] - top);
    const float shift = top + log(sum);
    for (int i = 0; i < 5; ++i) yp[i * 3] = xp[i * 3] - shift;
  }
}
