// conv2d {'tile': 2, 'blocks': 1, 'channels_first': 0, 'group': 64, 'across': 16, 'local': 2, 'image': 0}, grid (16, 4, 1) of (16, 4, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(16, 4, 1)))
void conv2d_rows(__global const float *restrict x, __global const float *restrict w, __global float *restrict y) {
  const int column = get_local_id(0), line = get_local_id(1), group = get_global_id(1);
  const int n = get_global_id(2) / 1, part = get_global_id(2) % 1;
  const int first = part * 2 + group * 1, oh = 0;
  const int ow = get_global_id(0) * 2, left = get_group_id(0) * 32;
  __local vec xs[64], ws[32];
  vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f);
  for (int icb = 0; icb < 3; icb += 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = line * 16 + column; i < 256; i += 64) {
      const int pixel = i / 8, ic = i % 8, channel = icb * 4 + ic;
      float value = 0.0f;
      if (left + pixel < 5 && channel < 12) value = x[n * 60 + (left + pixel) * 12 + part * 12 + channel];
      ((__local float *)xs)[(ic / 4 * 32 + pixel) * 4 + ic % 4] = value;
    }
    for (int i = line * 16 + column; i < 32; i += 64) {
      const int row = i / 8, ic = i / 1 % 8, channel = icb * 4 + ic;
      const int of = get_group_id(1) * 4 + row;
      __global const float *restrict wp = w + ((part * 2 + of) * 12 + channel) * 4;
      vec value = (vec)(0.0f);
      if (of < 2 && channel < 12) value = LOAD(wp + i % 1 * 4);
      ws[(ic * 4 + row) * 1 + i % 1] = value;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int block = 0; block < 2; ++block) {
      const vec x0 = xs[block * 32 + column * 2 + 0];
      const vec x1 = xs[block * 32 + column * 2 + 1];
      {
        const vec w0 = ws[((block * 4 + 0) * 4 + line) * 1 + 0];
        a0_0 = x0.s0 * w0 + a0_0;
        a0_1 = x1.s0 * w0 + a0_1;
      }
      {
        const vec w0 = ws[((block * 4 + 1) * 4 + line) * 1 + 0];
        a0_0 = x0.s1 * w0 + a0_0;
        a0_1 = x1.s1 * w0 + a0_1;
      }
      {
        const vec w0 = ws[((block * 4 + 2) * 4 + line) * 1 + 0];
        a0_0 = x0.s2 * w0 + a0_0;
        a0_1 = x1.s2 * w0 + a0_1;
      }
      {
        const vec w0 = ws[((block * 4 + 3) * 4 + line) * 1 + 0];
        a0_0 = x0.s3 * w0 + a0_0;
        a0_1 = x1.s3 * w0 + a0_1;
      }
    }
  }
  if (group < 2) {
    {
      const int at = n * 35 + (first + 0) * 4 + oh * 35 + ow * 7;
      if (ow + 0 < 5) {
        if ((first + 0 == 1)) { (y + at + 0)[0] = a0_0.s0; (y + at + 0)[1] = a0_0.s1; (y + at + 0)[2] = a0_0.s2; } else { (y + at + 0)[0] = a0_0.s0; (y + at + 0)[1] = a0_0.s1; (y + at + 0)[2] = a0_0.s2; (y + at + 0)[3] = a0_0.s3; }
      }
      if (ow + 1 < 5) {
        if ((first + 0 == 1)) { (y + at + 7)[0] = a0_1.s0; (y + at + 7)[1] = a0_1.s1; (y + at + 7)[2] = a0_1.s2; } else { (y + at + 7)[0] = a0_1.s0; (y + at + 7)[1] = a0_1.s1; (y + at + 7)[2] = a0_1.s2; (y + at + 7)[3] = a0_1.s3; }
      }
    }
  }
}
