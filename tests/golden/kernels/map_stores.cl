// map_cast {'chunk': 1, 'group': 1}, grid (4, 1, 1) of (1, 1, 1)
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void map_stores(__global const double *restrict x0, __global ushort *restrict y) {
  const int begin = get_global_id(0) * 1;
  const int end = min(begin + 1, 4);
  for (int at = begin; at < end; ++at) {
    const double a0 = x0[at];
    float r;
    r = a0;
    y[at] = isnan(r) ? (ushort)0x7FC0 : (ushort)((as_uint(r) + 0x7FFFu + ((as_uint(r) >> 16) & 1u)) >> 16);
  }
}
