// conv2d {'tile': 9, 'blocks': 1, 'channels_first': 0}, grid (1, 1, 2) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__constant int conv2d_gather_offset[] = {0, 36, 37, 0, 1};
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void conv2d_gather(__global const float *restrict in0, __global const float *restrict in1, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 1, oh = line % 1;
  const int first = group * 1;
  const int ow = 0;
  const int top = oh * 1 - 0;
  const int k0 = 0, k1 = 1;
  {
    vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f), a0_4 = (vec)(0.0f), a0_5 = (vec)(0.0f), a0_6 = (vec)(0.0f), a0_7 = (vec)(0.0f), a0_8 = (vec)(0.0f);
    __global const float *restrict wp = w + group * 20;
    for (int ic = 0; ic < 3; ++ic) {
      __global const float *restrict xp = in0 + ow * 4 + conv2d_gather_offset[ic];
      const vec w0 = LOAD(wp + ic * 4 + 0);
      const vec x0 = (vec)(xp[0 + 0]); a0_0 = x0 * w0 + a0_0;
      const vec x1 = (vec)(xp[4 + 0]); a0_1 = x1 * w0 + a0_1;
      const vec x2 = (vec)(xp[8 + 0]); a0_2 = x2 * w0 + a0_2;
      const vec x3 = (vec)(xp[12 + 0]); a0_3 = x3 * w0 + a0_3;
      const vec x4 = (vec)(xp[16 + 0]); a0_4 = x4 * w0 + a0_4;
      const vec x5 = (vec)(xp[20 + 0]); a0_5 = x5 * w0 + a0_5;
      const vec x6 = (vec)(xp[24 + 0]); a0_6 = x6 * w0 + a0_6;
      const vec x7 = (vec)(xp[28 + 0]); a0_7 = x7 * w0 + a0_7;
      const vec x8 = (vec)(xp[32 + 0]); a0_8 = x8 * w0 + a0_8;
    }
    for (int ic = 3; ic < 5; ++ic) {
      __global const float *restrict xp = in1 + ow * 4 + conv2d_gather_offset[ic];
      const vec w0 = LOAD(wp + ic * 4 + 0);
      const vec x0 = (vec)(xp[0 + 0]); a0_0 = x0 * w0 + a0_0;
      const vec x1 = (vec)(xp[4 + 0]); a0_1 = x1 * w0 + a0_1;
      const vec x2 = (vec)(xp[8 + 0]); a0_2 = x2 * w0 + a0_2;
      const vec x3 = (vec)(xp[12 + 0]); a0_3 = x3 * w0 + a0_3;
      const vec x4 = (vec)(xp[16 + 0]); a0_4 = x4 * w0 + a0_4;
      const vec x5 = (vec)(xp[20 + 0]); a0_5 = x5 * w0 + a0_5;
      const vec x6 = (vec)(xp[24 + 0]); a0_6 = x6 * w0 + a0_6;
      const vec x7 = (vec)(xp[28 + 0]); a0_7 = x7 * w0 + a0_7;
      const vec x8 = (vec)(xp[32 + 0]); a0_8 = x8 * w0 + a0_8;
    }
    {
      const int at = n * 72 + (first + 0) * 36 + oh * 36 + ow * 4;
      const vec bias = LOAD(b + (first + 0) * 4);
      a0_0 += bias; a0_1 += bias; a0_2 += bias; a0_3 += bias; a0_4 += bias; a0_5 += bias; a0_6 += bias; a0_7 += bias; a0_8 += bias;
      const vec v0_0 = ((vec)(0.0f) > a0_0 ? (vec)(0.0f) : a0_0);
      STORE(y + at + 0, v0_0);
      const vec v1_0 = ((vec)(0.0f) > a0_1 ? (vec)(0.0f) : a0_1);
      STORE(y + at + 4, v1_0);
      const vec v2_0 = ((vec)(0.0f) > a0_2 ? (vec)(0.0f) : a0_2);
      STORE(y + at + 8, v2_0);
      const vec v3_0 = ((vec)(0.0f) > a0_3 ? (vec)(0.0f) : a0_3);
      STORE(y + at + 12, v3_0);
      const vec v4_0 = ((vec)(0.0f) > a0_4 ? (vec)(0.0f) : a0_4);
      STORE(y + at + 16, v4_0);
      const vec v5_0 = ((vec)(0.0f) > a0_5 ? (vec)(0.0f) : a0_5);
      STORE(y + at + 20, v5_0);
      const vec v6_0 = ((vec)(0.0f) > a0_6 ? (vec)(0.0f) : a0_6);
      STORE(y + at + 24, v6_0);
      const vec v7_0 = ((vec)(0.0f) > a0_7 ? (vec)(0.0f) : a0_7);
      STORE(y + at + 28, v7_0);
      const vec v8_0 = ((vec)(0.0f) > a0_8 ? (vec)(0.0f) : a0_8);
      STORE(y + at + 32, v8_0);
    }
  }
}
