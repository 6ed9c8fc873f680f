// winograd_output {}, grid (3, 1, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
static inline __attribute__((always_inline)) vec winograd_output_epilogue(const vec a) {
  const vec v0 = ((vec)(0.0f) > a ? (vec)(0.0f) : a);
  return v0;
}
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void winograd_output(__global const float *restrict v, __global const float *restrict b, __global float *restrict y) {
  const int th = get_global_id(0), plane = get_global_id(1);
  const int image = plane / 1, cb = plane % 1;
  const vec bias = LOAD(b + cb * 4);
  for (int tw = 0; tw < 3; ++tw) {
    const int tile = (image * 3 + th) * 3 + tw;
    __global const float *restrict vp = v + (cb * 9 + tile) * 4;
    vec d[4], e[2][4], f[2];
    #pragma unroll
    for (int j = 0; j < 4; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        d[i] = LOAD(vp + (i * 4 + j) * 36);
      }
      e[0][j] = (d[0] + d[1] + d[2]);
      e[1][j] = (d[1] - d[2] + d[3]);
    }
    const int first = ((plane * 5 + th * 2) * 5 + tw * 2) * 4;
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      f[0] = (e[i][0] + e[i][1] + e[i][2]);
      f[1] = (e[i][1] - e[i][2] + e[i][3]);
      #pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (th * 2 + i < 5 && tw * 2 + j < 5) {
          const int at = first + (i * 5 + j) * 4;
          STORE(y + at, winograd_output_epilogue(f[j] + bias));
        }
      }
    }
  }
}
