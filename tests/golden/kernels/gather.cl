// gather {'rows': 1}, grid (4, 2, 1) of (1, 1, 1)
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void gather(__global const float *restrict x, __global const long *restrict positions, __global float *restrict y) {
  const int begin = get_global_id(0) * 1, outer = get_global_id(1);
  const int end = begin + 1 < 4 ? begin + 1 : 4;
  for (int p = begin; p < end; ++p) {
    long at = positions[p];
    at = at < 0 ? at + 5 : at;
    at = at < 0 ? 0 : at >= 5 ? 4 : at;
    __global const float *restrict xp = x + (outer * 5 + (int)at) * 3;
    __global float *restrict yp = y + (outer * 4 + p) * 3;
    for (int i = 0; i < 3; ++i) yp[i] = xp[i];
  }
}
