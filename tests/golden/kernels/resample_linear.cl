// resample {}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__constant int resample_linear_rows_at[] = {0, 1, 0, 1, 1, 1};
__constant float resample_linear_rows_by[] = {1.0f, 0.0f, 0.5f, 0.5f, 1.0f, 0.0f};
__constant int resample_linear_columns_at[] = {0, 1};
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void resample_linear(__global const float *restrict x, __global float *restrict y) {
  const int oh = get_global_id(0), plane = get_global_id(1);
  __global const float *restrict xc = x + plane * 16;
  const int r0 = resample_linear_rows_at[oh * 2 + 0];
  const vec u0 = (vec)(resample_linear_rows_by[oh * 2 + 0]);
  const int r1 = resample_linear_rows_at[oh * 2 + 1];
  const vec u1 = (vec)(resample_linear_rows_by[oh * 2 + 1]);
  for (int ow = 0; ow < 2; ++ow) {
    const int q0 = resample_linear_columns_at[ow * 1 + 0];
    const vec x0_0 = LOAD(xc + (r0 * 2 + q0) * 4);
    const vec x1_0 = LOAD(xc + (r1 * 2 + q0) * 4);
    const vec a = u0 * x0_0 + u1 * x1_0;
    STORE(y + ((plane * 3 + oh) * 2 + ow) * 4, a);
  }
}
