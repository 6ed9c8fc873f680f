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
  vec a[1][9] = {{(vec)(0.0f)}};
  __global const float *restrict wp = w + group * 20;
  for (int ic = 0; ic < 3; ++ic) {
    __global const float *restrict xp = in0 + ow * 4 + conv2d_gather_offset[ic];
    vec weight[1];
    #pragma unroll
    for (int r = 0; r < 1; ++r) {
      weight[r] = LOAD(wp + ic * 4 + r * 4);
    }
    #pragma unroll
    for (int t = 0; t < 9; ++t) {
      const vec v = (vec)(xp[(t) * 4]);
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        a[r][t] = v * weight[r] + a[r][t];
      }
    }
  }
  for (int ic = 3; ic < 5; ++ic) {
    __global const float *restrict xp = in1 + ow * 4 + conv2d_gather_offset[ic];
    vec weight[1];
    #pragma unroll
    for (int r = 0; r < 1; ++r) {
      weight[r] = LOAD(wp + ic * 4 + r * 4);
    }
    #pragma unroll
    for (int t = 0; t < 9; ++t) {
      const vec v = (vec)(xp[(t) * 4]);
      #pragma unroll
      for (int r = 0; r < 1; ++r) {
        a[r][t] = v * weight[r] + a[r][t];
      }
    }
  }
  #pragma unroll
  for (int r = 0; r < 1; ++r) {
    const int at = n * 72 + (first + r) * 36 + oh * 36 + ow * 4;
    const vec bias = LOAD(b + (first + r) * 4);
    #pragma unroll
    for (int t = 0; t < 9; ++t) {
      STORE(y + at + t * 4, conv2d_gather_epilogue(a[r][t] + bias));
    }
  }
}
