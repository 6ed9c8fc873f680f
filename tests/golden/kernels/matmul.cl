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
  vec s[3][1] = {{(vec)(0.0f)}};
  for (int k = 0; k < 4; ++k) {
    vec w[1];
    #pragma unroll
    for (int j = 0; j < 1; ++j) {
      w[j] = UNALIGNED(bp + k * 6 + j * 4);
    }
    #pragma unroll
    for (int i = 0; i < 3; ++i) {
      const vec x = (vec)(ap[i * 4 + k]);
      #pragma unroll
      for (int j = 0; j < 1; ++j) {
        s[i][j] = x * w[j] + s[i][j];
      }
    }
  }
  #pragma unroll
  for (int i = 0; i < 3; ++i) {
    #pragma unroll
    for (int j = 0; j < 1; ++j) {
      const vec v0 = ((vec)(0.0f) > s[i][j] ? (vec)(0.0f) : s[i][j]);
      STORE_UNALIGNED(y + batch * 18 + (row + i) * 6 + column + j * 4, v0);
    }
  }
}
