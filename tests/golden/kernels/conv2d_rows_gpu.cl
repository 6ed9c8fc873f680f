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
  vec a[1][2] = {{(vec)(0.0f)}};
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
      vec near[2];
      #pragma unroll
      for (int t = 0; t < 2; ++t) {
        near[t] = xs[block * 32 + column * 2 + t];
      }
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        const vec weight = ws[((block * 4 + 0) * 4 + line) * 1 + r];
        #pragma unroll
        for (int t = 0; t < 2; ++t) {
          a[r][t] = near[t].s0 * weight + a[r][t];
        }
      }
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        const vec weight = ws[((block * 4 + 1) * 4 + line) * 1 + r];
        #pragma unroll
        for (int t = 0; t < 2; ++t) {
          a[r][t] = near[t].s1 * weight + a[r][t];
        }
      }
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        const vec weight = ws[((block * 4 + 2) * 4 + line) * 1 + r];
        #pragma unroll
        for (int t = 0; t < 2; ++t) {
          a[r][t] = near[t].s2 * weight + a[r][t];
        }
      }
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        const vec weight = ws[((block * 4 + 3) * 4 + line) * 1 + r];
        #pragma unroll
        for (int t = 0; t < 2; ++t) {
          a[r][t] = near[t].s3 * weight + a[r][t];
        }
      }
    }
  }
  if (group < 2) {
    #pragma unroll
    for (int r = 0; r < 1; ++r) {
      const int at = n * 35 + (first + r) * 4 + oh * 35 + ow * 7;
      #pragma unroll
      for (int t = 0; t < 2; ++t) {
        if (ow + t < 5) {
          const vec value = a[r][t];
          if ((first + r == 1)) { (y + at + t * 7)[0] = value.s0; (y + at + t * 7)[1] = value.s1; (y + at + t * 7)[2] = value.s2; } else { (y + at + t * 7)[0] = value.s0; (y + at + t * 7)[1] = value.s1; (y + at + t * 7)[2] = value.s2; (y + at + t * 7)[3] = value.s3; }
        }
      }
    }
  }
}
