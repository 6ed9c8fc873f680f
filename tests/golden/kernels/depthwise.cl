// depthwise {'tile': 7, 'rows': 2}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec depthwise_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void depthwise(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int strip = get_global_id(0);
  const int plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 140;
  const vec bias = LOAD(b + cb * 4);
  const int end = strip * 2 + 2 < 5 ? strip * 2 + 2 : 5;
  for (int oh = strip * 2; oh < end; ++oh) {
    const int top = oh * 1 - 1;
    const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
    const int below = (5 - top + 0) / 1;
    const int k1 = below < 3 ? below : 3;
    {
      const int ow = 0;
      vec v, a0 = (vec)(0.0f), a1 = (vec)(0.0f), a2 = (vec)(0.0f), a3 = (vec)(0.0f), a4 = (vec)(0.0f), a5 = (vec)(0.0f), a6 = (vec)(0.0f);
      for (int kh = k0; kh < k1; ++kh) {
        __global const float *restrict xp = xc + ((top + kh * 1) * 7 + ow * 1 - 1) * 4;
        __global const float *restrict wp = w + (cb * 3 + kh) * 12;
        const vec w0 = LOAD(wp + 0), w1 = LOAD(wp + 4), w2 = LOAD(wp + 8);
        v = LOAD(xp + 4); a0 = v * w1 + a0; a1 = v * w0 + a1;
        v = LOAD(xp + 8); a0 = v * w2 + a0; a1 = v * w1 + a1; a2 = v * w0 + a2;
        v = LOAD(xp + 12); a1 = v * w2 + a1; a2 = v * w1 + a2; a3 = v * w0 + a3;
        v = LOAD(xp + 16); a2 = v * w2 + a2; a3 = v * w1 + a3; a4 = v * w0 + a4;
        v = LOAD(xp + 20); a3 = v * w2 + a3; a4 = v * w1 + a4; a5 = v * w0 + a5;
        v = LOAD(xp + 24); a4 = v * w2 + a4; a5 = v * w1 + a5; a6 = v * w0 + a6;
        v = LOAD(xp + 28); a5 = v * w2 + a5; a6 = v * w1 + a6;
      }
      const int at = ((plane * 5 + oh) * 7 + ow) * 4;
      STORE(y + at + 0, depthwise_epilogue(a0 + bias));
      STORE(y + at + 4, depthwise_epilogue(a1 + bias));
      STORE(y + at + 8, depthwise_epilogue(a2 + bias));
      STORE(y + at + 12, depthwise_epilogue(a3 + bias));
      STORE(y + at + 16, depthwise_epilogue(a4 + bias));
      STORE(y + at + 20, depthwise_epilogue(a5 + bias));
      STORE(y + at + 24, depthwise_epilogue(a6 + bias));
    }
  }
}
