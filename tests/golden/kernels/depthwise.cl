// depthwise {'tile': 4, 'rows': 1}, grid (5, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void depthwise(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int strip = get_global_id(0);
  const int plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 140;
  const vec w0 = LOAD(w + cb * 36 + 0);
  const vec w1 = LOAD(w + cb * 36 + 4);
  const vec w2 = LOAD(w + cb * 36 + 8);
  const vec w3 = LOAD(w + cb * 36 + 12);
  const vec w4 = LOAD(w + cb * 36 + 16);
  const vec w5 = LOAD(w + cb * 36 + 20);
  const vec w6 = LOAD(w + cb * 36 + 24);
  const vec w7 = LOAD(w + cb * 36 + 28);
  const vec w8 = LOAD(w + cb * 36 + 32);
  const vec bias = LOAD(b + cb * 4);
  const int end = strip * 1 + 1 < 5 ? strip * 1 + 1 : 5;
  for (int oh = strip * 1; oh < end; ++oh) {
    const int top = oh * 1 - 1;
    const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
    const int below = (5 - top + 0) / 1;
    const int k1 = below < 3 ? below : 3;
    {
      const int ow = 0;
      vec a0 = (vec)(0.0f), a1 = (vec)(0.0f), a2 = (vec)(0.0f), a3 = (vec)(0.0f);
      if (0 >= k0 && 0 < k1) {
        __global const float *restrict xp = xc + ((top + 0) * 7 + ow * 1 - 1) * 4;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w1 + a0; a1 = x1 * w0 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w2 + a0; a1 = x2 * w1 + a1; a2 = x2 * w0 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w2 + a1; a2 = x3 * w1 + a2; a3 = x3 * w0 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w2 + a2; a3 = x4 * w1 + a3;
        const vec x5 = LOAD(xp + 20); a3 = x5 * w2 + a3;
      }
      if (1 >= k0 && 1 < k1) {
        __global const float *restrict xp = xc + ((top + 1) * 7 + ow * 1 - 1) * 4;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w4 + a0; a1 = x1 * w3 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w5 + a0; a1 = x2 * w4 + a1; a2 = x2 * w3 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w5 + a1; a2 = x3 * w4 + a2; a3 = x3 * w3 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w5 + a2; a3 = x4 * w4 + a3;
        const vec x5 = LOAD(xp + 20); a3 = x5 * w5 + a3;
      }
      if (2 >= k0 && 2 < k1) {
        __global const float *restrict xp = xc + ((top + 2) * 7 + ow * 1 - 1) * 4;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w7 + a0; a1 = x1 * w6 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w8 + a0; a1 = x2 * w7 + a1; a2 = x2 * w6 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w8 + a1; a2 = x3 * w7 + a2; a3 = x3 * w6 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w8 + a2; a3 = x4 * w7 + a3;
        const vec x5 = LOAD(xp + 20); a3 = x5 * w8 + a3;
      }
      const int at = ((plane * 5 + oh) * 7 + ow) * 4;
      a0 += bias;
      const vec v0_0 = ((vec)(0.0f) > a0 ? (vec)(0.0f) : a0);
      STORE(y + at + 0, v0_0);
      a1 += bias;
      const vec v1_0 = ((vec)(0.0f) > a1 ? (vec)(0.0f) : a1);
      STORE(y + at + 4, v1_0);
      a2 += bias;
      const vec v2_0 = ((vec)(0.0f) > a2 ? (vec)(0.0f) : a2);
      STORE(y + at + 8, v2_0);
      a3 += bias;
      const vec v3_0 = ((vec)(0.0f) > a3 ? (vec)(0.0f) : a3);
      STORE(y + at + 12, v3_0);
    }
    {
      const int ow = 3;
      vec a0 = (vec)(0.0f), a1 = (vec)(0.0f), a2 = (vec)(0.0f), a3 = (vec)(0.0f);
      if (0 >= k0 && 0 < k1) {
        __global const float *restrict xp = xc + ((top + 0) * 7 + ow * 1 - 1) * 4;
        const vec x0 = LOAD(xp + 0); a0 = x0 * w0 + a0;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w1 + a0; a1 = x1 * w0 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w2 + a0; a1 = x2 * w1 + a1; a2 = x2 * w0 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w2 + a1; a2 = x3 * w1 + a2; a3 = x3 * w0 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w2 + a2; a3 = x4 * w1 + a3;
      }
      if (1 >= k0 && 1 < k1) {
        __global const float *restrict xp = xc + ((top + 1) * 7 + ow * 1 - 1) * 4;
        const vec x0 = LOAD(xp + 0); a0 = x0 * w3 + a0;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w4 + a0; a1 = x1 * w3 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w5 + a0; a1 = x2 * w4 + a1; a2 = x2 * w3 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w5 + a1; a2 = x3 * w4 + a2; a3 = x3 * w3 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w5 + a2; a3 = x4 * w4 + a3;
      }
      if (2 >= k0 && 2 < k1) {
        __global const float *restrict xp = xc + ((top + 2) * 7 + ow * 1 - 1) * 4;
        const vec x0 = LOAD(xp + 0); a0 = x0 * w6 + a0;
        const vec x1 = LOAD(xp + 4); a0 = x1 * w7 + a0; a1 = x1 * w6 + a1;
        const vec x2 = LOAD(xp + 8); a0 = x2 * w8 + a0; a1 = x2 * w7 + a1; a2 = x2 * w6 + a2;
        const vec x3 = LOAD(xp + 12); a1 = x3 * w8 + a1; a2 = x3 * w7 + a2; a3 = x3 * w6 + a3;
        const vec x4 = LOAD(xp + 16); a2 = x4 * w8 + a2; a3 = x4 * w7 + a3;
      }
      const int at = ((plane * 5 + oh) * 7 + ow) * 4;
      a0 += bias;
      const vec v0_0 = ((vec)(0.0f) > a0 ? (vec)(0.0f) : a0);
      STORE(y + at + 0, v0_0);
      a1 += bias;
      const vec v1_0 = ((vec)(0.0f) > a1 ? (vec)(0.0f) : a1);
      STORE(y + at + 4, v1_0);
      a2 += bias;
      const vec v2_0 = ((vec)(0.0f) > a2 ? (vec)(0.0f) : a2);
      STORE(y + at + 8, v2_0);
      a3 += bias;
      const vec v3_0 = ((vec)(0.0f) > a3 ? (vec)(0.0f) : a3);
      STORE(y + at + 12, v3_0);
    }
  }
}
