// pool2d {'tile': 3}, grid (3, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void pool2d_max(__global const float *restrict x, __global float *restrict y) {
  const int oh = get_global_id(0), plane = get_global_id(1);
  const int cb = plane % 2;
  __global const float *restrict xc = x + plane * 144;
  const int top = oh * 2 - 0;
  const int k0 = 0, k1 = 2;
  {
    const int ow = 0;
    vec a[3];
    #pragma unroll
    for (int t = 0; t < 3; ++t) {
      a[t] = (vec)(-INFINITY);
    }
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = xc + ((top + kh * 1) * 6 + ow * 2 - 0) * 4;
      #pragma unroll
      for (int t = 0; t < 3; ++t) {
        #pragma unroll
        for (int k = 0; k < 2; ++k) {
          const vec v = LOAD(xp + (t * 2 + k * 1) * 4);
          a[t] = ((v > a[t]) | (v != v)) ? v : a[t];
        }
      }
    }
    const int at = ((plane * 3 + oh) * 3 + ow) * 4;
    #pragma unroll
    for (int t = 0; t < 3; ++t) {
      STORE(y + at + t * 4, a[t]);
    }
  }
}
