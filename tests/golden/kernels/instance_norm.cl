// instance_norm {}, grid (2, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec instance_norm_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void instance_norm(__global const float *restrict x, __global const float *restrict scale, __global const float *restrict shift, __global float *restrict y) {
  const int plane = get_global_id(0);
  const int cb = plane % 2;
  __global const float *restrict xp = x + plane * 36;
  vec sum = (vec)(0.0f);
  for (int i = 0; i < 9; ++i) sum += LOAD(xp + i * 4);
  const vec mean = sum * (vec)(0.111111112f);
  vec squares = (vec)(0.0f);
  for (int i = 0; i < 9; ++i) {
    const vec d = LOAD(xp + i * 4) - mean;
    squares += d * d;
  }
  const vec gain = LOAD(scale + cb * 4) / sqrt(squares * (vec)(0.111111112f) + (vec)(9.99999975e-06f));
  const vec base = LOAD(shift + cb * 4) - mean * gain;
  for (int i = 0; i < 9; ++i) {
    const int at = plane * 36 + i * 4;
    const vec a = LOAD(x + at) * gain + base;
    STORE(y + at, instance_norm_epilogue(a));
  }
}
