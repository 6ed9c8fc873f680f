// conv2d {'tile': 6, 'blocks': 2, 'channels_first': 0}, grid (1, 6, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec conv2d_3x3_epilogue(const vec a, const vec e0) {
  const vec v0 = (a + e0);
  const vec v1 = ((vec)(0.0f) > v0 ? (vec)(0.0f) : v0);
  return v1;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void conv2d_3x3(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b, __global const float *restrict e0, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 6, oh = line % 6;
  const int first = group * 2;
  const int ow = 0;
  const int top = oh * 1 - 1;
  const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
  const int below = (6 - top + 0) / 1;
  const int k1 = below < 3 ? below : 3;
  vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f), a0_4 = (vec)(0.0f), a0_5 = (vec)(0.0f);
  vec a1_0 = (vec)(0.0f), a1_1 = (vec)(0.0f), a1_2 = (vec)(0.0f), a1_3 = (vec)(0.0f), a1_4 = (vec)(0.0f), a1_5 = (vec)(0.0f);
  for (int icb = 0; icb < 2; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 288 + icb * 144 + (top + kh * 1) * 24 + (ow * 1 - 1) * 4;
      __global const float *restrict wp = w + ((group * 2 + icb) * 3 + kh) * 96;
      for (int ic = 0; ic < 4; ++ic) {
        const vec w0 = LOAD(wp + 0 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 0 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[4 + ic]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[8 + ic]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[12 + ic]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
        v = (vec)(xp[16 + ic]); a0_4 = v * w0 + a0_4; a1_4 = v * w1 + a1_4;
        v = (vec)(xp[20 + ic]); a0_5 = v * w0 + a0_5; a1_5 = v * w1 + a1_5;
      }
      for (int ic = 0; ic < 4; ++ic) {
        const vec w0 = LOAD(wp + 32 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 32 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[4 + ic]); a0_0 = v * w0 + a0_0; a1_0 = v * w1 + a1_0;
        v = (vec)(xp[8 + ic]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[12 + ic]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[16 + ic]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
        v = (vec)(xp[20 + ic]); a0_4 = v * w0 + a0_4; a1_4 = v * w1 + a1_4;
        v = (vec)(xp[24 + ic]); a0_5 = v * w0 + a0_5; a1_5 = v * w1 + a1_5;
      }
      for (int ic = 0; ic < 4; ++ic) {
        const vec w0 = LOAD(wp + 64 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 64 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[8 + ic]); a0_0 = v * w0 + a0_0; a1_0 = v * w1 + a1_0;
        v = (vec)(xp[12 + ic]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[16 + ic]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[20 + ic]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
        v = (vec)(xp[24 + ic]); a0_4 = v * w0 + a0_4; a1_4 = v * w1 + a1_4;
      }
    }
  }
  {
    const int at = n * 288 + (first + 0) * 144 + oh * 24 + ow * 4;
    const vec bias = LOAD(b + (first + 0) * 4);
    STORE(y + at + 0, conv2d_3x3_epilogue(a0_0 + bias, LOAD(e0 + at + 0)));
    STORE(y + at + 4, conv2d_3x3_epilogue(a0_1 + bias, LOAD(e0 + at + 4)));
    STORE(y + at + 8, conv2d_3x3_epilogue(a0_2 + bias, LOAD(e0 + at + 8)));
    STORE(y + at + 12, conv2d_3x3_epilogue(a0_3 + bias, LOAD(e0 + at + 12)));
    STORE(y + at + 16, conv2d_3x3_epilogue(a0_4 + bias, LOAD(e0 + at + 16)));
    STORE(y + at + 20, conv2d_3x3_epilogue(a0_5 + bias, LOAD(e0 + at + 20)));
  }
  {
    const int at = n * 288 + (first + 1) * 144 + oh * 24 + ow * 4;
    const vec bias = LOAD(b + (first + 1) * 4);
    STORE(y + at + 0, conv2d_3x3_epilogue(a1_0 + bias, LOAD(e0 + at + 0)));
    STORE(y + at + 4, conv2d_3x3_epilogue(a1_1 + bias, LOAD(e0 + at + 4)));
    STORE(y + at + 8, conv2d_3x3_epilogue(a1_2 + bias, LOAD(e0 + at + 8)));
    STORE(y + at + 12, conv2d_3x3_epilogue(a1_3 + bias, LOAD(e0 + at + 12)));
    STORE(y + at + 16, conv2d_3x3_epilogue(a1_4 + bias, LOAD(e0 + at + 16)));
    STORE(y + at + 20, conv2d_3x3_epilogue(a1_5 + bias, LOAD(e0 + at + 20)));
  }
}
