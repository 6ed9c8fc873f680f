// conv2d {'tile': 6, 'blocks': 2, 'channels_first': 0}, grid (1, 6, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
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
  {
    vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f), a0_4 = (vec)(0.0f), a0_5 = (vec)(0.0f);
    vec a1_0 = (vec)(0.0f), a1_1 = (vec)(0.0f), a1_2 = (vec)(0.0f), a1_3 = (vec)(0.0f), a1_4 = (vec)(0.0f), a1_5 = (vec)(0.0f);
    for (int icb = 0; icb < 2; ++icb) {
      for (int kh = k0; kh < k1; ++kh) {
        __global const float *restrict xp = x + n * 288 + icb * 144 + (top + kh * 1) * 24 + (ow * 1 - 1) * 4;
        __global const float *restrict wp = w + ((group * 2 + icb) * 3 + kh) * 96;
        for (int ic = 0; ic < 4; ++ic) {
          const vec w0 = LOAD(wp + 0 + ic * 8 + 0);
          const vec w1 = LOAD(wp + 0 + ic * 8 + 4);
          const vec x1 = (vec)(xp[4 + ic]); a0_1 = x1 * w0 + a0_1; a1_1 = x1 * w1 + a1_1;
          const vec x2 = (vec)(xp[8 + ic]); a0_2 = x2 * w0 + a0_2; a1_2 = x2 * w1 + a1_2;
          const vec x3 = (vec)(xp[12 + ic]); a0_3 = x3 * w0 + a0_3; a1_3 = x3 * w1 + a1_3;
          const vec x4 = (vec)(xp[16 + ic]); a0_4 = x4 * w0 + a0_4; a1_4 = x4 * w1 + a1_4;
          const vec x5 = (vec)(xp[20 + ic]); a0_5 = x5 * w0 + a0_5; a1_5 = x5 * w1 + a1_5;
        }
        for (int ic = 0; ic < 4; ++ic) {
          const vec w0 = LOAD(wp + 32 + ic * 8 + 0);
          const vec w1 = LOAD(wp + 32 + ic * 8 + 4);
          const vec x0 = (vec)(xp[4 + ic]); a0_0 = x0 * w0 + a0_0; a1_0 = x0 * w1 + a1_0;
          const vec x1 = (vec)(xp[8 + ic]); a0_1 = x1 * w0 + a0_1; a1_1 = x1 * w1 + a1_1;
          const vec x2 = (vec)(xp[12 + ic]); a0_2 = x2 * w0 + a0_2; a1_2 = x2 * w1 + a1_2;
          const vec x3 = (vec)(xp[16 + ic]); a0_3 = x3 * w0 + a0_3; a1_3 = x3 * w1 + a1_3;
          const vec x4 = (vec)(xp[20 + ic]); a0_4 = x4 * w0 + a0_4; a1_4 = x4 * w1 + a1_4;
          const vec x5 = (vec)(xp[24 + ic]); a0_5 = x5 * w0 + a0_5; a1_5 = x5 * w1 + a1_5;
        }
        for (int ic = 0; ic < 4; ++ic) {
          const vec w0 = LOAD(wp + 64 + ic * 8 + 0);
          const vec w1 = LOAD(wp + 64 + ic * 8 + 4);
          const vec x0 = (vec)(xp[8 + ic]); a0_0 = x0 * w0 + a0_0; a1_0 = x0 * w1 + a1_0;
          const vec x1 = (vec)(xp[12 + ic]); a0_1 = x1 * w0 + a0_1; a1_1 = x1 * w1 + a1_1;
          const vec x2 = (vec)(xp[16 + ic]); a0_2 = x2 * w0 + a0_2; a1_2 = x2 * w1 + a1_2;
          const vec x3 = (vec)(xp[20 + ic]); a0_3 = x3 * w0 + a0_3; a1_3 = x3 * w1 + a1_3;
          const vec x4 = (vec)(xp[24 + ic]); a0_4 = x4 * w0 + a0_4; a1_4 = x4 * w1 + a1_4;
        }
      }
    }
    {
      const int at = n * 288 + (first + 0) * 144 + oh * 24 + ow * 4;
      const vec bias = LOAD(b + (first + 0) * 4);
      a0_0 += bias; a0_1 += bias; a0_2 += bias; a0_3 += bias; a0_4 += bias; a0_5 += bias;
      const vec v0_0 = (a0_0 + LOAD(e0 + at + 0));
      const vec v0_1 = ((vec)(0.0f) > v0_0 ? (vec)(0.0f) : v0_0);
      STORE(y + at + 0, v0_1);
      const vec v1_0 = (a0_1 + LOAD(e0 + at + 4));
      const vec v1_1 = ((vec)(0.0f) > v1_0 ? (vec)(0.0f) : v1_0);
      STORE(y + at + 4, v1_1);
      const vec v2_0 = (a0_2 + LOAD(e0 + at + 8));
      const vec v2_1 = ((vec)(0.0f) > v2_0 ? (vec)(0.0f) : v2_0);
      STORE(y + at + 8, v2_1);
      const vec v3_0 = (a0_3 + LOAD(e0 + at + 12));
      const vec v3_1 = ((vec)(0.0f) > v3_0 ? (vec)(0.0f) : v3_0);
      STORE(y + at + 12, v3_1);
      const vec v4_0 = (a0_4 + LOAD(e0 + at + 16));
      const vec v4_1 = ((vec)(0.0f) > v4_0 ? (vec)(0.0f) : v4_0);
      STORE(y + at + 16, v4_1);
      const vec v5_0 = (a0_5 + LOAD(e0 + at + 20));
      const vec v5_1 = ((vec)(0.0f) > v5_0 ? (vec)(0.0f) : v5_0);
      STORE(y + at + 20, v5_1);
    }
    {
      const int at = n * 288 + (first + 1) * 144 + oh * 24 + ow * 4;
      const vec bias = LOAD(b + (first + 1) * 4);
      a1_0 += bias; a1_1 += bias; a1_2 += bias; a1_3 += bias; a1_4 += bias; a1_5 += bias;
      const vec v0_0 = (a1_0 + LOAD(e0 + at + 0));
      const vec v0_1 = ((vec)(0.0f) > v0_0 ? (vec)(0.0f) : v0_0);
      STORE(y + at + 0, v0_1);
      const vec v1_0 = (a1_1 + LOAD(e0 + at + 4));
      const vec v1_1 = ((vec)(0.0f) > v1_0 ? (vec)(0.0f) : v1_0);
      STORE(y + at + 4, v1_1);
      const vec v2_0 = (a1_2 + LOAD(e0 + at + 8));
      const vec v2_1 = ((vec)(0.0f) > v2_0 ? (vec)(0.0f) : v2_0);
      STORE(y + at + 8, v2_1);
      const vec v3_0 = (a1_3 + LOAD(e0 + at + 12));
      const vec v3_1 = ((vec)(0.0f) > v3_0 ? (vec)(0.0f) : v3_0);
      STORE(y + at + 12, v3_1);
      const vec v4_0 = (a1_4 + LOAD(e0 + at + 16));
      const vec v4_1 = ((vec)(0.0f) > v4_0 ? (vec)(0.0f) : v4_0);
      STORE(y + at + 16, v4_1);
      const vec v5_0 = (a1_5 + LOAD(e0 + at + 20));
      const vec v5_1 = ((vec)(0.0f) > v5_0 ? (vec)(0.0f) : v5_0);
      STORE(y + at + 20, v5_1);
    }
  }
}
