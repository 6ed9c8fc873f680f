// pool2d {'tile': 3}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void pool2d_max(__global const float *restrict x, __global float *restrict y) {
  const int oh = get_global_id(0), plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 144;
  const int top = oh * 2 - 0;
  const int k0 = 0, k1 = 2;
  {
    const int ow = 0;
    vec a0 = (vec)(-INFINITY), a1 = (vec)(-INFINITY), a2 = (vec)(-INFINITY);
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = xc + ((top + kh * 1) * 6 + ow * 2 - 0) * 4;
      const vec x0 = LOAD(xp + 0);
      a0 = ((x0 > a0) | (x0 != x0)) ? x0 : a0;
      const vec x1 = LOAD(xp + 4);
      a0 = ((x1 > a0) | (x1 != x1)) ? x1 : a0;
      const vec x2 = LOAD(xp + 8);
      a1 = ((x2 > a1) | (x2 != x2)) ? x2 : a1;
      const vec x3 = LOAD(xp + 12);
      a1 = ((x3 > a1) | (x3 != x3)) ? x3 : a1;
      const vec x4 = LOAD(xp + 16);
      a2 = ((x4 > a2) | (x4 != x4)) ? x4 : a2;
      const vec x5 = LOAD(xp + 20);
      a2 = ((x5 > a2) | (x5 != x5)) ? x5 : a2;
    }
    const int at = ((plane * 3 + oh) * 3 + ow) * 4;
    STORE(y + at + 0, a0);
    STORE(y + at + 4, a1);
    STORE(y + at + 8, a2);
  }
}
