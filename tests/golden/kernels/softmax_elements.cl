// softmax {'rows': 1}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void softmax_elements(__global const float *restrict x, __global float *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = begin + 1 < 3 ? begin + 1 : 3;
  for (int row = begin; row < end; ++row) {
    const int at = row / 1 * 3 + row % 1;
    __global const float *restrict xp = x + at;
    __global float *restrict yp = y + at;
    float top = xp[0], sum = 0.0f;
    for (int i = 0; i < 3; ++i) top = top > xp[i * 1] ? top : xp[i * 1];
    for (int i = 0; i < 3; ++i) {
      const float e = exp(xp[i * 1] - top);
      yp[i * 1] = e;
      sum += e;
    }
    const float scale = 1.0f / sum;
    for (int i = 0; i < 3; ++i) yp[i * 1] *= scale;
  }
}
