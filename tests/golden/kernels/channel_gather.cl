// channel_gather {'chunk': 16}, grid (1, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__constant int channel_gather_source[] = {0, 1, 0, 1, 0, 1, 0, 0};
__constant int channel_gather_offset[] = {0, 0, 1, 1, 2, 2, 0, 0};
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void channel_gather(__global const float *restrict x0, __global const float *restrict x1, __global float *restrict y) {
  const int begin = get_global_id(0) * 16, cb = get_global_id(1);
  const int end = begin + 16 < 9 ? begin + 16 : 9;
  const int s0 = channel_gather_source[cb * 4 + 0];
  __global const float *restrict p0 = (s0 == 0 ? x0 : x1) + channel_gather_offset[cb * 4 + 0];
  const int s1 = channel_gather_source[cb * 4 + 1];
  __global const float *restrict p1 = (s1 == 0 ? x0 : x1) + channel_gather_offset[cb * 4 + 1];
  const int s2 = channel_gather_source[cb * 4 + 2];
  __global const float *restrict p2 = (s2 == 0 ? x0 : x1) + channel_gather_offset[cb * 4 + 2];
  const int s3 = channel_gather_source[cb * 4 + 3];
  __global const float *restrict p3 = (s3 == 0 ? x0 : x1) + channel_gather_offset[cb * 4 + 3];
  for (int i = begin; i < end; ++i) {
    const vec v = (vec)(p0[i * 4], p1[i * 4], p2[i * 4], p3[i * 4]);
    const vec vm = (cb == 1) ? ((int4)(-1, -1, 0, 0) ? v : (vec)(0.0f)) : v;
    STORE(y + (cb * 9 + i) * 4, vm);
  }
}
