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
  vec a[2][6] = {{(vec)(0.0f)}};
  for (int icb = 0; icb < 2; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 288 + icb * 144 + (top + kh * 1) * 24 + (ow * 1 - 1) * 4;
      __global const float *restrict wp = w + ((group * 2 + icb) * 3 + kh) * 96;
      for (int kw = 0; kw < 1; ++kw) {
        for (int ic = 0; ic < 4; ++ic) {
          vec weight[2];
          #pragma unroll
          for (int r = 0; r < 2; ++r) {
            weight[r] = LOAD(wp + (kw * 4 + ic) * 8 + r * 4);
          }
          #pragma unroll
          for (int t = 1; t < 6; ++t) {
            const vec v = (vec)(xp[(t * 1 + kw * 1) * 4 + ic * 1]);
            #pragma unroll
            for (int r = 0; r < 2; ++r) {
              a[r][t] = v * weight[r] + a[r][t];
            }
          }
        }
      }
      for (int kw = 1; kw < 2; ++kw) {
        for (int ic = 0; ic < 4; ++ic) {
          vec weight[2];
          #pragma unroll
          for (int r = 0; r < 2; ++r) {
            weight[r] = LOAD(wp + (kw * 4 + ic) * 8 + r * 4);
          }
          #pragma unroll
          for (int t = 0; t < 6; ++t) {
            const vec v = (vec)(xp[(t * 1 + kw * 1) * 4 + ic * 1]);
            #pragma unroll
            for (int r = 0; r < 2; ++r) {
              a[r][t] = v * weight[r] + a[r][t];
            }
          }
        }
      }
      for (int kw = 2; kw < 3; ++kw) {
        for (int ic = 0; ic < 4; ++ic) {
          vec weight[2];
          #pragma unroll
          for (int r = 0; r < 2; ++r) {
            weight[r] = LOAD(wp + (kw * 4 + ic) * 8 + r * 4);
          }
          #pragma unroll
          for (int t = 0; t < 5; ++t) {
            const vec v = (vec)(xp[(t * 1 + kw * 1) * 4 + ic * 1]);
            #pragma unroll
            for (int r = 0; r < 2; ++r) {
              a[r][t] = v * weight[r] + a[r][t];
            }
          }
        }
      }
    }
  }
  #pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int at = n * 288 + (first + r) * 144 + oh * 24 + ow * 4;
    const vec bias = LOAD(b + (first + r) * 4);
    #pragma unroll
    for (int t = 0; t < 6; ++t) {
      STORE(y + at + t * 4, conv2d_3x3_epilogue(a[r][t] + bias, LOAD(e0 + at + t * 4)));
    }
  }
}
