// pool2d {'tile': 3}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec pool2d_average_epilogue(const vec a, const vec e0) {
  const vec v0 = ((vec)(1.0f) / ((vec)(1.0f) + exp(-e0)));
  const vec v1 = (a * v0);
  return v1;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void pool2d_average(__global const float *restrict x, __global const float *restrict e0, __global float *restrict y) {
  const int oh = get_global_id(0), plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 144;
  const int top = oh * 2 - 1;
  const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
  const int below = (6 - top + 0) / 1;
  const int k1 = below < 3 ? below : 3;
  const int rows = k1 - k0;
  {
    const int ow = 0;
    vec a0 = (vec)(0.0f), a1 = (vec)(0.0f), a2 = (vec)(0.0f);
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = xc + ((top + kh * 1) * 6 + ow * 2 - 1) * 4;
      const vec x1 = LOAD(xp + 4);
      a0 += x1;
      const vec x2 = LOAD(xp + 8);
      a0 += x2; a1 += x2;
      const vec x3 = LOAD(xp + 12);
      a1 += x3;
      const vec x4 = LOAD(xp + 16);
      a1 += x4; a2 += x4;
      const vec x5 = LOAD(xp + 20);
      a2 += x5;
      const vec x6 = LOAD(xp + 24);
      a2 += x6;
    }
    const int at = ((plane * 3 + oh) * 3 + ow) * 4;
    a0 *= (vec)(1.0f / (float)(rows * 2));
    STORE(y + at + 0, pool2d_average_epilogue(a0, LOAD(e0 + plane * 4)));
    a1 *= (vec)(1.0f / (float)(rows * 3));
    STORE(y + at + 4, pool2d_average_epilogue(a1, LOAD(e0 + plane * 4)));
    a2 *= (vec)(1.0f / (float)(rows * 3));
    STORE(y + at + 8, pool2d_average_epilogue(a2, LOAD(e0 + plane * 4)));
  }
}
