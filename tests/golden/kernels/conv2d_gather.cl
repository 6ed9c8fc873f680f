// conv2d {'tile': 9, 'blocks': 1, 'channels_first': 0}, grid (1, 1, 2) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__constant int conv2d_gather_offset[] = {0, 36, 37, 0, 1};
static inline __attribute__((always_inline)) vec conv2d_gather_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void conv2d_gather(__global const float *restrict in0, __global const float *restrict in1, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 1, oh = line % 1;
  const int first = group * 1;
  const int ow = 0;
  const int top = oh * 1 - 0;
  const int k0 = 0, k1 = 1;
  vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f), a0_4 = (vec)(0.0f), a0_5 = (vec)(0.0f), a0_6 = (vec)(0.0f), a0_7 = (vec)(0.0f), a0_8 = (vec)(0.0f);
  __global const float *restrict wp = w + group * 20;
  for (int ic = 0; ic < 3; ++ic) {
    __global const float *restrict xp = in0 + ow * 4 + conv2d_gather_offset[ic];
    const vec w0 = LOAD(wp + ic * 4 + 0);
    vec v;
    v = (vec)(xp[0 + 0]); a0_0 = v * w0 + a0_0;
    v = (vec)(xp[4 + 0]); a0_1 = v * w0 + a0_1;
    v = (vec)(xp[8 + 0]); a0_2 = v * w0 + a0_2;
    v = (vec)(xp[12 + 0]); a0_3 = v * w0 + a0_3;
    v = (vec)(xp[16 + 0]); a0_4 = v * w0 + a0_4;
    v = (vec)(xp[20 + 0]); a0_5 = v * w0 + a0_5;
    v = (vec)(xp[24 + 0]); a0_6 = v * w0 + a0_6;
    v = (vec)(xp[28 + 0]); a0_7 = v * w0 + a0_7;
    v = (vec)(xp[32 + 0]); a0_8 = v * w0 + a0_8;
  }
  for (int ic = 3; ic < 5; ++ic) {
    __global const float *restrict xp = in1 + ow * 4 + conv2d_gather_offset[ic];
    const vec w0 = LOAD(wp + ic * 4 + 0);
    vec v;
    v = (vec)(xp[0 + 0]); a0_0 = v * w0 + a0_0;
    v = (vec)(xp[4 + 0]); a0_1 = v * w0 + a0_1;
    v = (vec)(xp[8 + 0]); a0_2 = v * w0 + a0_2;
    v = (vec)(xp[12 + 0]); a0_3 = v * w0 + a0_3;
    v = (vec)(xp[16 + 0]); a0_4 = v * w0 + a0_4;
    v = (vec)(xp[20 + 0]); a0_5 = v * w0 + a0_5;
    v = (vec)(xp[24 + 0]); a0_6 = v * w0 + a0_6;
    v = (vec)(xp[28 + 0]); a0_7 = v * w0 + a0_7;
    v = (vec)(xp[32 + 0]); a0_8 = v * w0 + a0_8;
  }
  {
    const int at = n * 72 + (first + 0) * 36 + oh * 36 + ow * 4;
    const vec bias = LOAD(b + (first + 0) * 4);
    STORE(y + at + 0, conv2d_gather_epilogue(a0_0 + bias));
    STORE(y + at + 4, conv2d_gather_epilogue(a0_1 + bias));
    STORE(y + at + 8, conv2d_gather_epilogue(a0_2 + bias));
    STORE(y + at + 12, conv2d_gather_epilogue(a0_3 + bias));
    STORE(y + at + 16, conv2d_gather_epilogue(a0_4 + bias));
    STORE(y + at + 20, conv2d_gather_epilogue(a0_5 + bias));
    STORE(y + at + 24, conv2d_gather_epilogue(a0_6 + bias));
    STORE(y + at + 28, conv2d_gather_epilogue(a0_7 + bias));
    STORE(y + at + 32, conv2d_gather_epilogue(a0_8 + bias));
  }
}
