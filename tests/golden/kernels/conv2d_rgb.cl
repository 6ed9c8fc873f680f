// conv2d {'tile': 4, 'blocks': 2, 'channels_first': 0}, grid (1, 4, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec conv2d_rgb_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void conv2d_rgb(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 4, oh = line % 4;
  const int first = group * 2;
  const int ow = 0;
  const int top = oh * 2 - 0;
  const int k0 = 0, k1 = 3;
  vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f);
  vec a1_0 = (vec)(0.0f), a1_1 = (vec)(0.0f), a1_2 = (vec)(0.0f), a1_3 = (vec)(0.0f);
  vec s0_0 = (vec)(0.0f), s0_1 = (vec)(0.0f), s0_2 = (vec)(0.0f), s0_3 = (vec)(0.0f);
  vec s1_0 = (vec)(0.0f), s1_1 = (vec)(0.0f), s1_2 = (vec)(0.0f), s1_3 = (vec)(0.0f);
  for (int icb = 0; icb < 3; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 243 + icb * 81 + (top + kh * 1) * 9 + (ow * 2 - 0) * 1;
      __global const float *restrict wp = w + ((group * 3 + icb) * 3 + kh) * 24;
      for (int ic = 0; ic < 1; ++ic) {
        const vec w0 = LOAD(wp + 0 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 0 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[0 + ic * 81]); a0_0 = v * w0 + a0_0; a1_0 = v * w1 + a1_0;
        v = (vec)(xp[2 + ic * 81]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[4 + ic * 81]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[6 + ic * 81]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
      }
      for (int ic = 0; ic < 1; ++ic) {
        const vec w0 = LOAD(wp + 8 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 8 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[1 + ic * 81]); a0_0 = v * w0 + a0_0; a1_0 = v * w1 + a1_0;
        v = (vec)(xp[3 + ic * 81]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[5 + ic * 81]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[7 + ic * 81]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
      }
      for (int ic = 0; ic < 1; ++ic) {
        const vec w0 = LOAD(wp + 16 + ic * 8 + 0);
        const vec w1 = LOAD(wp + 16 + ic * 8 + 4);
        vec v;
        v = (vec)(xp[2 + ic * 81]); a0_0 = v * w0 + a0_0; a1_0 = v * w1 + a1_0;
        v = (vec)(xp[4 + ic * 81]); a0_1 = v * w0 + a0_1; a1_1 = v * w1 + a1_1;
        v = (vec)(xp[6 + ic * 81]); a0_2 = v * w0 + a0_2; a1_2 = v * w1 + a1_2;
        v = (vec)(xp[8 + ic * 81]); a0_3 = v * w0 + a0_3; a1_3 = v * w1 + a1_3;
      }
    }
    if (icb % 1 == 0 || icb == 2) {
      s0_0 += a0_0; a0_0 = (vec)(0.0f); s0_1 += a0_1; a0_1 = (vec)(0.0f); s0_2 += a0_2; a0_2 = (vec)(0.0f); s0_3 += a0_3; a0_3 = (vec)(0.0f);
      s1_0 += a1_0; a1_0 = (vec)(0.0f); s1_1 += a1_1; a1_1 = (vec)(0.0f); s1_2 += a1_2; a1_2 = (vec)(0.0f); s1_3 += a1_3; a1_3 = (vec)(0.0f);
    }
  }
  a0_0 = s0_0; a0_1 = s0_1; a0_2 = s0_2; a0_3 = s0_3;
  a1_0 = s1_0; a1_1 = s1_1; a1_2 = s1_2; a1_3 = s1_3;
  {
    const int at = n * 128 + (first + 0) * 64 + oh * 16 + ow * 4;
    const vec bias = LOAD(b + (first + 0) * 4);
    STORE(y + at + 0, conv2d_rgb_epilogue(a0_0 + bias));
    STORE(y + at + 4, conv2d_rgb_epilogue(a0_1 + bias));
    STORE(y + at + 8, conv2d_rgb_epilogue(a0_2 + bias));
    STORE(y + at + 12, conv2d_rgb_epilogue(a0_3 + bias));
  }
  {
    const int at = n * 128 + (first + 1) * 64 + oh * 16 + ow * 4;
    const vec bias = LOAD(b + (first + 1) * 4);
    STORE(y + at + 0, conv2d_rgb_epilogue(a1_0 + bias));
    STORE(y + at + 4, conv2d_rgb_epilogue(a1_1 + bias));
    STORE(y + at + 8, conv2d_rgb_epilogue(a1_2 + bias));
    STORE(y + at + 12, conv2d_rgb_epilogue(a1_3 + bias));
  }
}
