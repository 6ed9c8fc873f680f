// layer_norm {'rows': 1}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void layer_norm(__global const float *restrict x, __global const float *restrict scale, __global const float *restrict shift, __global float *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = begin + 1 < 3 ? begin + 1 : 3;
  for (int row = begin; row < end; ++row) {
    __global const float *restrict xp = x + row * 8;
    __global float *restrict yp = y + row * 8;
    vec sum = (vec)(0.0f), squares = (vec)(0.0f);
    for (int i = 0; i < 8; i += 4) sum += LOAD(xp + i);
    const float mean = (sum.s0 + sum.s1 + sum.s2 + sum.s3) * 0.125f;
    for (int i = 0; i < 8; i += 4) {
      const vec d = LOAD(xp + i) - (vec)(mean);
      squares += d * d;
    }
    const float variance = (squares.s0 + squares.s1 + squares.s2 + squares.s3) * 0.125f;
    const vec gain = (vec)(1.0f / sqrt(variance + 9.99999975e-06f));
    for (int i = 0; i < 8; i += 4) {
      const vec v = (LOAD(xp + i) - (vec)(mean)) * gain * LOAD(scale + i) + LOAD(shift + i);
      STORE(yp + i, v);
    }
  }
}
