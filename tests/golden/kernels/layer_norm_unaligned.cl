// layer_norm {'rows': 1}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void layer_norm_unaligned(__global const float *restrict x, __global const float *restrict scale, __global float *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = begin + 1 < 3 ? begin + 1 : 3;
  for (int row = begin; row < end; ++row) {
    __global const float *restrict xp = x + row * 7;
    __global float *restrict yp = y + row * 7;
    float sum = (float)(0.0f), squares = (float)(0.0f);
    for (int i = 0; i < 7; i += 1) sum += xp[i];
    const float mean = (sum) * 0.142857149f;
    for (int i = 0; i < 7; i += 1) {
      const float d = xp[i] - (float)(mean);
      squares += d * d;
    }
    const float variance = (squares) * 0.142857149f;
    const float gain = (float)(1.0f / sqrt(variance + 9.99999975e-06f));
    for (int i = 0; i < 7; i += 1) {
      const float v = (xp[i] - (float)(mean)) * gain * scale[i];
      yp[i] = v;
    }
  }
}
