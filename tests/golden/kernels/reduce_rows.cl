// reduce {}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void reduce_rows(__global const float *restrict x, __global float *restrict y) {
  const int at = get_global_id(0);
  int rest = at, base = 0;
  base += rest % 3 * 5; rest /= 3;
  float a = (float)(-INFINITY);
  for (int i0 = 0; i0 < 5; ++i0)
  {
    const float v = x[base + i0 * 1];
    a = (((v > a) | (v != v)) ? v : a);
  }
  y[at] = a;
}
