// elementwise {'chunk': 256}, grid (1, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void elementwise_broadcast(__global const float *restrict x0, __global const float *restrict x1, __global float *restrict y) {
  const int chunk = get_global_id(0);
  int rest = get_global_id(1);
  const int x0_at = 0;
  const int x1_at = 0;
  const int y_at = 0;
  const int begin = chunk * 3;
  const int end = begin + 3;
  for (int row = begin; row < end; ++row) {
    for (int i = 0; i < 5; ++i) {
      const float a0 = x0[x0_at + row * 5 + i];
      const float a1 = x1[x1_at + row * 1];
      const float v0 = (a0 * a1);
      y[y_at + row * 5 + i] = v0;
    }
  }
}
