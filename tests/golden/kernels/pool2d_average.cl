// pool2d {'tile': 3}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec pool2d_average_epilogue(const vec a, const vec e0) {
  const vec v0 = ((vec)(1.0f) / ((vec)(1.0f) + exp(-e0)));
  const vec v1 = (a * v0);
  return v1;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void pool2d_average(__global const float *restrict x, __global const float *restrict e0, __global float *restrict y) {
  const int oh = get_global_id(0), plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 144;
  const int top = oh * 2 - 1;
  const int k0 = top >= 0 ? 0 : (-top + 0) / 1;
  const int below = (6 - top + 0) / 1;
  const int k1 = below < 3 ? below : 3;
  const int rows = k1 - k0;
  {
    const int ow = 0;
    vec a[3];
    #pragma unroll
    for (int t = 0; t < 3; ++t) {
      a[t] = (vec)(0.0f);
    }
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = xc + ((top + kh * 1) * 6 + ow * 2 - 1) * 4;
      #pragma unroll
      for (int t = 0; t < 1; ++t) {
        #pragma unroll
        for (int k = 1; k < 3; ++k) {
          const vec v = LOAD(xp + (t * 2 + k * 1) * 4);
          a[t] += v;
        }
      }
      #pragma unroll
      for (int t = 1; t < 3; ++t) {
        #pragma unroll
        for (int k = 0; k < 3; ++k) {
          const vec v = LOAD(xp + (t * 2 + k * 1) * 4);
          a[t] += v;
        }
      }
    }
    const int at = ((plane * 3 + oh) * 3 + ow) * 4;
    const int counts[] = {2, 3, 3};
    #pragma unroll
    for (int t = 0; t < 3; ++t) {
      a[t] *= (vec)(1.0f / (float)(rows * counts[t]));
      STORE(y + at + t * 4, pool2d_average_epilogue(a[t], LOAD(e0 + plane * 4)));
    }
  }
}
