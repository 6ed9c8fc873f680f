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
    const vec d00 = LOAD(vp + 0);
    const vec d10 = LOAD(vp + 144);
    const vec d20 = LOAD(vp + 288);
    const vec d30 = LOAD(vp + 432);
    const vec e00 = (d00 + d10 + d20);
    const vec e10 = (d10 - d20 + d30);
    const vec d01 = LOAD(vp + 36);
    const vec d11 = LOAD(vp + 180);
    const vec d21 = LOAD(vp + 324);
    const vec d31 = LOAD(vp + 468);
    const vec e01 = (d01 + d11 + d21);
    const vec e11 = (d11 - d21 + d31);
    const vec d02 = LOAD(vp + 72);
    const vec d12 = LOAD(vp + 216);
    const vec d22 = LOAD(vp + 360);
    const vec d32 = LOAD(vp + 504);
    const vec e02 = (d02 + d12 + d22);
    const vec e12 = (d12 - d22 + d32);
    const vec d03 = LOAD(vp + 108);
    const vec d13 = LOAD(vp + 252);
    const vec d23 = LOAD(vp + 396);
    const vec d33 = LOAD(vp + 540);
    const vec e03 = (d03 + d13 + d23);
    const vec e13 = (d13 - d23 + d33);
    const int first = ((plane * 5 + th * 2) * 5 + tw * 2) * 4;
    {
      const vec a = (e00 + e01 + e02) + bias;
      const int at = first + 0;
      STORE(y + at, winograd_output_epilogue(a));
    }
    if (tw * 2 + 1 < 5) {
      const vec a = (e01 - e02 + e03) + bias;
      const int at = first + 4;
      STORE(y + at, winograd_output_epilogue(a));
    }
    if (th * 2 + 1 < 5) {
      const vec a = (e10 + e11 + e12) + bias;
      const int at = first + 20;
      STORE(y + at, winograd_output_epilogue(a));
    }
    if (th * 2 + 1 < 5 && tw * 2 + 1 < 5) {
      const vec a = (e11 - e12 + e13) + bias;
      const int at = first + 24;
      STORE(y + at, winograd_output_epilogue(a));
    }
  }
}
