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
  vec a[2][4] = {{(vec)(0.0f)}};
  vec s[2][4] = {{(vec)(0.0f)}};
  for (int icb = 0; icb < 3; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 243 + icb * 81 + (top + kh * 1) * 9 + (ow * 2 - 0) * 1;
      __global const float *restrict wp = w + ((group * 3 + icb) * 3 + kh) * 24;
      #pragma unroll
      for (int kw = 0; kw < 3; ++kw) {
        for (int ic = 0; ic < 1; ++ic) {
          vec weight[2];
          #pragma unroll
          for (int r = 0; r < 2; ++r) {
            weight[r] = LOAD(wp + (kw * 1 + ic) * 8 + r * 4);
          }
          #pragma unroll
          for (int t = 0; t < 4; ++t) {
            const vec v = (vec)(xp[(t * 2 + kw * 1) * 1 + ic * 81]);
            #pragma unroll
            for (int r = 0; r < 2; ++r) {
              a[r][t] = v * weight[r] + a[r][t];
            }
          }
        }
      }
    }
    if (icb % 1 == 0 || icb == 2) {
      #pragma unroll
      for (int r = 0; r < 2; ++r) {
        #pragma unroll
        for (int t = 0; t < 4; ++t) {
          s[r][t] += a[r][t];
          a[r][t] = (vec)(0.0f);
        }
      }
    }
  }
  #pragma unroll
  for (int r = 0; r < 2; ++r) {
    #pragma unroll
    for (int t = 0; t < 4; ++t) {
      a[r][t] = s[r][t];
    }
  }
  #pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int at = n * 128 + (first + r) * 64 + oh * 16 + ow * 4;
    const vec bias = LOAD(b + (first + r) * 4);
    #pragma unroll
    for (int t = 0; t < 4; ++t) {
      STORE(y + at + t * 4, conv2d_rgb_epilogue(a[r][t] + bias));
    }
  }
}
