// conv2d {'tile': 5, 'blocks': 1, 'channels_first': 0}, grid (1, 1, 2) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void conv2d_rows(__global const float *restrict x, __global const float *restrict w, __global float *restrict y) {
  const int group = get_global_id(2);
  const int line = get_global_id(1);
  const int tile = get_global_id(0);
  const int n = line / 1, oh = line % 1;
  const int first = group * 1;
  const int ow = 0;
  const int top = oh * 1 - 0;
  const int k0 = 0, k1 = 1;
  vec a0_0 = (vec)(0.0f), a0_1 = (vec)(0.0f), a0_2 = (vec)(0.0f), a0_3 = (vec)(0.0f), a0_4 = (vec)(0.0f);
  for (int icb = 0; icb < 1; ++icb) {
    for (int kh = k0; kh < k1; ++kh) {
      __global const float *restrict xp = x + n * 60 + icb * 12 + (top + kh * 1) * 60 + (ow * 1 - 0) * 12;
      __global const float *restrict wp = w + ((group * 1 + icb) * 1 + kh) * 48;
      for (int ic = 0; ic < 12; ++ic) {
        const vec w0 = LOAD(wp + 0 + ic * 4 + 0);
        vec v;
        v = (vec)(xp[0 + ic]); a0_0 = v * w0 + a0_0;
        v = (vec)(xp[12 + ic]); a0_1 = v * w0 + a0_1;
        v = (vec)(xp[24 + ic]); a0_2 = v * w0 + a0_2;
        v = (vec)(xp[36 + ic]); a0_3 = v * w0 + a0_3;
        v = (vec)(xp[48 + ic]); a0_4 = v * w0 + a0_4;
      }
    }
  }
  {
    const int at = n * 35 + (first + 0) * 4 + oh * 35 + ow * 7;
    if ((first + 0 == 1)) { (y + at + 0)[0] = a0_0.s0; (y + at + 0)[1] = a0_0.s1; (y + at + 0)[2] = a0_0.s2; } else { (y + at + 0)[0] = a0_0.s0; (y + at + 0)[1] = a0_0.s1; (y + at + 0)[2] = a0_0.s2; (y + at + 0)[3] = a0_0.s3; }
    if ((first + 0 == 1)) { (y + at + 7)[0] = a0_1.s0; (y + at + 7)[1] = a0_1.s1; (y + at + 7)[2] = a0_1.s2; } else { (y + at + 7)[0] = a0_1.s0; (y + at + 7)[1] = a0_1.s1; (y + at + 7)[2] = a0_1.s2; (y + at + 7)[3] = a0_1.s3; }
    if ((first + 0 == 1)) { (y + at + 14)[0] = a0_2.s0; (y + at + 14)[1] = a0_2.s1; (y + at + 14)[2] = a0_2.s2; } else { (y + at + 14)[0] = a0_2.s0; (y + at + 14)[1] = a0_2.s1; (y + at + 14)[2] = a0_2.s2; (y + at + 14)[3] = a0_2.s3; }
    if ((first + 0 == 1)) { (y + at + 21)[0] = a0_3.s0; (y + at + 21)[1] = a0_3.s1; (y + at + 21)[2] = a0_3.s2; } else { (y + at + 21)[0] = a0_3.s0; (y + at + 21)[1] = a0_3.s1; (y + at + 21)[2] = a0_3.s2; (y + at + 21)[3] = a0_3.s3; }
    if ((first + 0 == 1)) { (y + at + 28)[0] = a0_4.s0; (y + at + 28)[1] = a0_4.s1; (y + at + 28)[2] = a0_4.s2; } else { (y + at + 28)[0] = a0_4.s0; (y + at + 28)[1] = a0_4.s1; (y + at + 28)[2] = a0_4.s2; (y + at + 28)[3] = a0_4.s3; }
  }
}
