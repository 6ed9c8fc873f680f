// winograd_input {'each': 1}, grid (3, 3, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void winograd_input(__global const float *restrict x, __global float *restrict u) {
  const int tw = get_global_id(0), th = get_global_id(1), plane = get_global_id(2);
  const int image = plane / 1, cb = plane % 1;
  const int top = th * 2 - 1;
  const int left = tw * 2 - 1;
  __global const float *restrict xp = x + ((plane * 5 + top) * 5 + left) * 4;
  __global float *restrict up = u + (cb * 9 + (image * 3 + th) * 3 + tw) * 4;
  const int in0 = left + 0 >= 0 && left + 0 < 5;
  const int in1 = left + 1 >= 0 && left + 1 < 5;
  const int in2 = left + 2 >= 0 && left + 2 < 5;
  const int in3 = left + 3 >= 0 && left + 3 < 5;
  vec d00 = (vec)(0.0f), d01 = (vec)(0.0f), d02 = (vec)(0.0f), d03 = (vec)(0.0f);
  if (top + 0 >= 0 && top + 0 < 5) {
    if (in0) d00 = LOAD(xp + 0);
    if (in1) d01 = LOAD(xp + 4);
    if (in2) d02 = LOAD(xp + 8);
    if (in3) d03 = LOAD(xp + 12);
  }
  vec d10 = (vec)(0.0f), d11 = (vec)(0.0f), d12 = (vec)(0.0f), d13 = (vec)(0.0f);
  if (top + 1 >= 0 && top + 1 < 5) {
    if (in0) d10 = LOAD(xp + 20);
    if (in1) d11 = LOAD(xp + 24);
    if (in2) d12 = LOAD(xp + 28);
    if (in3) d13 = LOAD(xp + 32);
  }
  vec d20 = (vec)(0.0f), d21 = (vec)(0.0f), d22 = (vec)(0.0f), d23 = (vec)(0.0f);
  if (top + 2 >= 0 && top + 2 < 5) {
    if (in0) d20 = LOAD(xp + 40);
    if (in1) d21 = LOAD(xp + 44);
    if (in2) d22 = LOAD(xp + 48);
    if (in3) d23 = LOAD(xp + 52);
  }
  vec d30 = (vec)(0.0f), d31 = (vec)(0.0f), d32 = (vec)(0.0f), d33 = (vec)(0.0f);
  if (top + 3 >= 0 && top + 3 < 5) {
    if (in0) d30 = LOAD(xp + 60);
    if (in1) d31 = LOAD(xp + 64);
    if (in2) d32 = LOAD(xp + 68);
    if (in3) d33 = LOAD(xp + 72);
  }
  const vec e00 = (- d00 + d20);
  const vec e10s = (d20), e10t = (d10);
  const vec e10 = e10s + e10t, e20 = e10s - e10t;
  const vec e30 = (- d10 + d30);
  const vec e01 = (- d01 + d21);
  const vec e11s = (d21), e11t = (d11);
  const vec e11 = e11s + e11t, e21 = e11s - e11t;
  const vec e31 = (- d11 + d31);
  const vec e02 = (- d02 + d22);
  const vec e12s = (d22), e12t = (d12);
  const vec e12 = e12s + e12t, e22 = e12s - e12t;
  const vec e32 = (- d12 + d32);
  const vec e03 = (- d03 + d23);
  const vec e13s = (d23), e13t = (d13);
  const vec e13 = e13s + e13t, e23 = e13s - e13t;
  const vec e33 = (- d13 + d33);
  const vec f00 = (- e00 + e02);
  const vec f01s = (e02), f01t = (e01);
  const vec f01 = f01s + f01t, f02 = f01s - f01t;
  const vec f03 = (- e01 + e03);
  STORE(up + 0, f00);
  STORE(up + 36, f01);
  STORE(up + 72, f02);
  STORE(up + 108, f03);
  const vec f10 = (- e10 + e12);
  const vec f11s = (e12), f11t = (e11);
  const vec f11 = f11s + f11t, f12 = f11s - f11t;
  const vec f13 = (- e11 + e13);
  STORE(up + 144, f10);
  STORE(up + 180, f11);
  STORE(up + 216, f12);
  STORE(up + 252, f13);
  const vec f20 = (- e20 + e22);
  const vec f21s = (e22), f21t = (e21);
  const vec f21 = f21s + f21t, f22 = f21s - f21t;
  const vec f23 = (- e21 + e23);
  STORE(up + 288, f20);
  STORE(up + 324, f21);
  STORE(up + 360, f22);
  STORE(up + 396, f23);
  const vec f30 = (- e30 + e32);
  const vec f31s = (e32), f31t = (e31);
  const vec f31 = f31s + f31t, f32 = f31s - f31t;
  const vec f33 = (- e31 + e33);
  STORE(up + 432, f30);
  STORE(up + 468, f31);
  STORE(up + 504, f32);
  STORE(up + 540, f33);
}
