// map_where {'chunk': 2, 'group': 1}, grid (8, 1, 1) of (1, 1, 1)
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void map(__global const uchar *restrict x0, __global const half *restrict x1, __global const float *restrict x2, __global long *restrict y) {
  const int begin = get_global_id(0) * 2;
  const int end = min(begin + 2, 15);
  for (int at = begin; at < end; ++at) {
    const int i1 = at % 5;
    const int i0 = at / 5;
    const uchar a0 = x0[i0];
    const float a1 = vload_half(at, x1);
    long r;
    r = a0 ? (long)a1 : (long)x2[i1];
    y[at] = r;
  }
}
