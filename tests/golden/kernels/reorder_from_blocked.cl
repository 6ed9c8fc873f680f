// reorder {'chunk': 16}, grid (1, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void reorder_from_blocked(__global const float *restrict x, __global float *restrict y) {
  const int begin = get_global_id(0) * 16;
  const int plane = get_global_id(1);
  const int end = begin + 16 < 9 ? begin + 16 : 9;
  const int n = plane / 2, cb = plane % 2;
  const int valid = cb == 1 ? 2 : 4;
  for (int p = begin; p < end; ++p) {
    y[(n * 6 + cb * 4) * 9 + 0 + p] = x[plane * 36 + p * 4 + 0];
    y[(n * 6 + cb * 4) * 9 + 9 + p] = x[plane * 36 + p * 4 + 1];
    if (2 < valid) y[(n * 6 + cb * 4) * 9 + 18 + p] = x[plane * 36 + p * 4 + 2];
    if (3 < valid) y[(n * 6 + cb * 4) * 9 + 27 + p] = x[plane * 36 + p * 4 + 3];
  }
}
