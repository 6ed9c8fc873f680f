// matmul {'tile': 3, 'blocks': 1}, grid (2, 1, 2) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
typedef float4 __attribute__((aligned(4))) matmul_vec;
#undef UNALIGNED
#undef STORE_UNALIGNED
#define UNALIGNED(p) (*(__global const matmul_vec *)(p))
#define STORE_UNALIGNED(p, v) (*(__global matmul_vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void matmul(__global const float *restrict a, __global const float *restrict b, __global float *restrict y) {
  const int column_tile = get_global_id(0), batch = get_global_id(2);
  int tile = get_global_id(1), rest = batch, at_a = 0, at_b = 0;
  at_a += rest % 2 * 12; at_b += rest % 2 * 0; rest /= 2;
  const int row = 0;
  tile = column_tile;
  const int column = (tile == 1 ? 2 : tile * 4);
  __global const float *restrict ap = a + at_a + row * 4;
  __global const float *restrict bp = b + at_b + column;
  vec s0_0 = (vec)(0.0f);
  vec s1_0 = (vec)(0.0f);
  vec s2_0 = (vec)(0.0f);
  for (int k = 0; k < 4; ++k) {
    const vec w0 = UNALIGNED(bp + k * 6 + 0);
    const vec x0 = (vec)(ap[0 + k]); s0_0 = x0 * w0 + s0_0;
    const vec x1 = (vec)(ap[4 + k]); s1_0 = x1 * w0 + s1_0;
    const vec x2 = (vec)(ap[8 + k]); s2_0 = x2 * w0 + s2_0;
  }
  const vec v0_0_0 = ((vec)(0.0f) > s0_0 ? (vec)(0.0f) : s0_0);
  STORE_UNALIGNED(y + batch * 18 + (row + 0) * 6 + column + 0, v0_0_0);
  const vec v1_0_0 = ((vec)(0.0f) > s1_0 ? (vec)(0.0f) : s1_0);
  STORE_UNALIGNED(y + batch * 18 + (row + 1) * 6 + column + 0, v1_0_0);
  const vec v2_0_0 = ((vec)(0.0f) > s2_0 ? (vec)(0.0f) : s2_0);
  STORE_UNALIGNED(y + batch * 18 + (row + 2) * 6 + column + 0, v2_0_0);
}
