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
  float s[2][3] = {{(float)(0.0f)}};
  for (int k = 0; k < 5; ++k) {
    float w[3];
    #pragma unroll
    for (int j = 0; j < 3; ++j) {
      w[j] = bp[k * 3 + j];
    }
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float x = (float)(ap[i * 5 + k]);
      #pragma unroll
      for (int j = 0; j < 3; ++j) {
        s[i][j] = x * w[j] + s[i][j];
      }
    }
  }
  #pragma unroll
  for (int i = 0; i < 2; ++i) {
    #pragma unroll
    for (int j = 0; j < 3; ++j) {
      *(y + batch * 6 + (row + i) * 3 + column + j * 1) = s[i][j];
    }
  }
}
