// depthwise {'tile': 7, 'rows': 2}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec depthwise_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void depthwise(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b, __global float *restrict y) {
  const int strip = get_global_id(0);
  const int plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 140;
  const vec bias = LOAD(b + cb * 4);
  const int end = strip * 2 + 2 < 5 ? strip * 2 + 2 : 5;
  for (int oh = strip * 2; oh < end; ++oh) {
    const int top = oh * 1 - 1;
    const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
    const int below = (5 - top + 0) / 1;
    const int k1 = below < 3 ? below : 3;
    {
      const int ow = 0;
      vec a[7] = {(vec)(0.0f)};
      for (int kh = k0; kh < k1; ++kh) {
        __global const float *restrict xp = xc + ((top + kh * 1) * 7 + ow * 1 - 1) * 4;
        __global const float *restrict wp = w + (cb * 3 + kh) * 12;
        vec weight[3];
        #pragma unroll
        for (int k = 0; k < 3; ++k) {
          weight[k] = LOAD(wp + k * 4);
        }
        #pragma unroll
        for (int t = 0; t < 1; ++t) {
          #pragma unroll
          for (int k = 1; k < 3; ++k) {
            a[t] = LOAD(xp + (t * 1 + k * 1) * 4) * weight[k] + a[t];
          }
        }
        #pragma unroll
        for (int t = 1; t < 6; ++t) {
          #pragma unroll
          for (int k = 0; k < 3; ++k) {
            a[t] = LOAD(xp + (t * 1 + k * 1) * 4) * weight[k] + a[t];
          }
        }
        #pragma unroll
        for (int t = 6; t < 7; ++t) {
          #pragma unroll
          for (int k = 0; k < 2; ++k) {
            a[t] = LOAD(xp + (t * 1 + k * 1) * 4) * weight[k] + a[t];
          }
        }
      }
      const int at = ((plane * 5 + oh) * 7 + ow) * 4;
      #pragma unroll
      for (int t = 0; t < 7; ++t) {
        STORE(y + at + t * 4, depthwise_epilogue(a[t] + bias));
      }
    }
  }
}
