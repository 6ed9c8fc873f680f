// softmax {'rows': 1}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
typedef float4 __attribute__((aligned(4))) softmax_vec;
#undef UNALIGNED
#undef STORE_UNALIGNED
#define UNALIGNED(p) (*(__global const softmax_vec *)(p))
#define STORE_UNALIGNED(p, v) (*(__global softmax_vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void softmax(__global const float *restrict x, __global float *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = begin + 1 < 3 ? begin + 1 : 3;
  for (int row = begin; row < end; ++row) {
    const int at = row / 1 * 5 + row % 1;
    __global const float *restrict xp = x + at;
    __global float *restrict yp = y + at;
    vec tops = UNALIGNED(xp), sums = (vec)(0.0f);
    for (int i = 0; i < 4; i += 4) { const vec v = UNALIGNED(xp + i); tops = tops > v ? tops : v; }
    float top = tops.s0, sum = 0.0f;
    top = top > tops.s1 ? top : tops.s1; top = top > tops.s2 ? top : tops.s2; top = top > tops.s3 ? top : tops.s3;
    for (int i = 4; i < 5; ++i) top = top > xp[i] ? top : xp[i];
    for (int i = 0; i < 4; i += 4) { const vec e = exp(UNALIGNED(xp + i) - (vec)(top)); STORE_UNALIGNED(yp + i, e); sums += e; }
    for (int i = 4; i < 5; ++i) { const float e = exp(xp[i] - top); yp[i] = e; sum += e; }
    sum += sums.s0 + sums.s1 + sums.s2 + sums.s3;
    const float scale = 1.0f / sum;
    for (int i = 0; i < 4; i += 4) STORE_UNALIGNED(yp + i, UNALIGNED(yp + i) * (vec)(scale));
    for (int i = 4; i < 5; ++i) yp[i] *= scale;
  }
}
