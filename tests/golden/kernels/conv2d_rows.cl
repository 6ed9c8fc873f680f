// conv2d {'tile': 5, 'blocks': 1, 'channels_first': 0}, grid (1, 1, 2) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void conv2d_rows(__global const float *restrict x, __global const float *restrict w, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 1, oh = line % 1;
  const int first = group * 1;
  const int ow = 0;
  const int top = oh * 1 - 0;
  const int k0 = 0, k1 = 1;
  vec a[1][5] = {{(vec)(0.0f)}};
  for (int icb = 0; icb < 1; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 60 + icb * 12 + (top + kh * 1) * 60 + (ow * 1 - 0) * 12;
      __global const float *restrict wp = w + ((group * 1 + icb) * 1 + kh) * 48;
      for (int kw = 0; kw < 1; ++kw) {
        for (int ic = 0; ic < 12; ++ic) {
          vec weight[1];
          #pragma unroll
          for (int r = 0; r < 1; ++r) {
            weight[r] = LOAD(wp + (kw * 12 + ic) * 4 + r * 4);
          }
          #pragma unroll
          for (int t = 0; t < 5; ++t) {
            const vec v = (vec)(xp[(t * 1 + kw * 1) * 12 + ic * 1]);
            #pragma unroll
            for (int r = 0; r < 1; ++r) {
              a[r][t] = v * weight[r] + a[r][t];
            }
          }
        }
      }
    }
  }
  #pragma unroll
  for (int r = 0; r < 1; ++r) {
    const int at = n * 35 + (first + r) * 4 + oh * 35 + ow * 7;
    #pragma unroll
    for (int t = 0; t < 5; ++t) {
      const vec value = a[r][t];
      if ((first + r == 1)) { (y + at + t * 7)[0] = value.s0; (y + at + t * 7)[1] = value.s1; (y + at + t * 7)[2] = value.s2; } else { (y + at + t * 7)[0] = value.s0; (y + at + t * 7)[1] = value.s1; (y + at + t * 7)[2] = value.s2; (y + at + t * 7)[3] = value.s3; }
    }
  }
}
