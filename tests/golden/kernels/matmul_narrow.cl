// matmul {'tile': 2, 'blocks': 3}, grid (1, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
typedef float4 __attribute__((aligned(4))) matmul_narrow_vec;
#undef UNALIGNED
#undef STORE_UNALIGNED
#define UNALIGNED(p) (*(__global const matmul_narrow_vec *)(p))
#define STORE_UNALIGNED(p, v) (*(__global matmul_narrow_vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void matmul_narrow(__global const float *restrict a, __global const float *restrict b, __global float *restrict y) {
  const int column_tile = get_global_id(0), batch = get_global_id(2);
  int tile = get_global_id(1), rest = batch, at_a = 0, at_b = 0;
  const int row = 0;
  tile = column_tile;
  const int column = 0;
  __global const float *restrict ap = a + at_a + row * 5;
  __global const float *restrict bp = b + at_b + column;
  float s0_0 = (float)(0.0f), s0_1 = (float)(0.0f), s0_2 = (float)(0.0f);
  float s1_0 = (float)(0.0f), s1_1 = (float)(0.0f), s1_2 = (float)(0.0f);
  for (int k = 0; k < 5; ++k) {
    const float w0 = bp[k * 3 + 0];
    const float w1 = bp[k * 3 + 1];
    const float w2 = bp[k * 3 + 2];
    const float x0 = (float)(ap[0 + k]); s0_0 = x0 * w0 + s0_0; s0_1 = x0 * w1 + s0_1; s0_2 = x0 * w2 + s0_2;
    const float x1 = (float)(ap[5 + k]); s1_0 = x1 * w0 + s1_0; s1_1 = x1 * w1 + s1_1; s1_2 = x1 * w2 + s1_2;
  }
  *(y + batch * 6 + (row + 0) * 3 + column + 0) = s0_0;
  *(y + batch * 6 + (row + 0) * 3 + column + 1) = s0_1;
  *(y + batch * 6 + (row + 0) * 3 + column + 2) = s0_2;
  *(y + batch * 6 + (row + 1) * 3 + column + 0) = s1_0;
  *(y + batch * 6 + (row + 1) * 3 + column + 1) = s1_1;
  *(y + batch * 6 + (row + 1) * 3 + column + 2) = s1_2;
}
