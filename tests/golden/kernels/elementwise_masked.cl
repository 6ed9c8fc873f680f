// elementwise {'chunk': 256}, grid (1, 6, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void elementwise_masked(__global const float *restrict x0, __global float *restrict y) {
  const int chunk = get_global_id(0);
  int rest = get_global_id(1);
  const int i2 = rest % 3; rest /= 3;
  const int i1 = rest % 2; rest /= 2;
  const int i0 = rest % 1; rest /= 1;
  const int x0_at = 0 + i0 * 72 + i1 * 36 + i2 * 12;
  const int y_at = 0 + i0 * 72 + i1 * 36 + i2 * 12;
  const int begin = chunk * 3;
  const int end = begin + 3;
  for (int row = begin; row < end; ++row) {
    for (int i = 0; i < 4; i += 4) {
      const vec a0 = LOAD(x0 + x0_at + row * 4 + i);
      const vec v0 = exp(a0);
      const vec v0m = (i1 == 1) ? ((int4)(-1, -1, 0, 0) ? v0 : (vec)(0.0f)) : v0;
      STORE(y + y_at + row * 4 + i, v0m);
    }
  }
}
