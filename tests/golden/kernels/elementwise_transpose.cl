// elementwise {'chunk': 256}, grid (1, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void elementwise_transpose(__global const float *restrict x0, __global float *restrict y) {
  const int chunk = get_global_id(0);
  int rest = get_global_id(1);
  const int x0_at = 0;
  const int y_at = 0;
  const int begin = chunk * 4;
  const int end = begin + 4;
  for (int row = begin; row < end; ++row) {
    for (int i = 0; i < 6; ++i) {
      const float a0 = x0[x0_at + row * 1 + i * 4];
      y[y_at + row * 6 + i] = a0;
    }
  }
}
