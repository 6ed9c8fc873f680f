// winograd_input {}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void winograd_input(__global const float *restrict x, __global float *restrict u) {
  const int th = get_global_id(0), plane = get_global_id(1);
  const int image = plane / 1, cb = plane % 1;
  const int top = th * 2 - 1;
  for (int tw = 0; tw < 3; ++tw) {
    const int left = tw * 2 - 1;
    __global const float *restrict xp = x + ((plane * 5 + top) * 5 + left) * 4;
    __global float *restrict up = u + (cb * 9 + (image * 3 + th) * 3 + tw) * 4;
    vec d[4][4] = {{(vec)(0.0f)}}, e[4][4], f[4];
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (top + i >= 0 && top + i < 5) {
        #pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (left + j >= 0 && left + j < 5) d[i][j] = LOAD(xp + (i * 5 + j) * 4);
        }
      }
    }
    #pragma unroll
    for (int j = 0; j < 4; ++j) {
      e[0][j] = (- d[0][j] + d[2][j]);
      {
        const vec even = (d[2][j]), odd = (d[1][j]);
        e[1][j] = even + odd;
        e[2][j] = even - odd;
      }
      e[3][j] = (- d[1][j] + d[3][j]);
    }
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      f[0] = (- e[i][0] + e[i][2]);
      {
        const vec even = (e[i][2]), odd = (e[i][1]);
        f[1] = even + odd;
        f[2] = even - odd;
      }
      f[3] = (- e[i][1] + e[i][3]);
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        STORE(up + (i * 4 + j) * 36, f[j]);
      }
    }
  }
}
