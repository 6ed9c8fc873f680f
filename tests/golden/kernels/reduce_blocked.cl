// reduce {}, grid (2, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec reduce_blocked_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void reduce_blocked(__global const float *restrict x, __global float *restrict y) {
  const int at = get_global_id(0);
  int rest = at, base = 0;
  base += rest % 2 * 36; rest /= 2;
  vec a = (vec)(0.0f);
  for (int i0 = 0; i0 < 9; ++i0)
  {
    const vec v = LOAD(x + base + i0 * 4);
    a = a + v;
  }
  a *= (vec)(0.1111111111111111f);
  const int cb = at % 2;
  STORE(y + at * 4, reduce_blocked_epilogue(a));
}
