// attention {'keys': 5, 'columns': 2}, grid (1, 2, 1) of (1, 1, 1)
#pragma OPENCL FP_CONTRACT ON
#define vec float4
#define LOAD(p) (*(__global const vec *)(p))
#define STORE(p, v) (*(__global vec *)(p) = (v))
__kernel __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16)))
void attention_masked(__global const float *restrict q, __global const float *restrict k, __global const float *restrict v, __global const float *restrict m, __global float *restrict y) {
  const int tile = get_global_id(0), head = get_global_id(1), image = get_global_id(2);
  const int first = 0;
  __global const float *restrict qp = q + 0 + image * 0 + head * 3;
  __global const float *restrict kp = k + 0 + image * 0 + head * 15;
  __global const float *restrict vp = v + 20 + image * 0 + head * 2;
  __global const float *restrict mp = m + 0 + image * 0 + head * 0;
  __global float *restrict yp = y + 0 + image * 0 + head * 12;
  const int q0 = (first + 0 < 2 ? first + 0 : 2) * 6;
  const int m0 = (first + 0 < 2 ? first + 0 : 2) * 5;
  const int q1 = (first + 1 < 2 ? first + 1 : 2) * 6;
  const int m1 = (first + 1 < 2 ? first + 1 : 2) * 5;
  const int q2 = (first + 2 < 2 ? first + 2 : 2) * 6;
  const int m2 = (first + 2 < 2 ? first + 2 : 2) * 5;
  const int q3 = (first + 3 < 2 ? first + 3 : 2) * 6;
  const int m3 = (first + 3 < 2 ? first + 3 : 2) * 5;
  vec query[3], score[5], result[2];
  for (int d = 0; d < 3; ++d) query[d] = (vec)(qp[q0 + d * 1], qp[q1 + d * 1], qp[q2 + d * 1], qp[q3 + d * 1]) * (vec)(0.5f);
  vec top = (vec)(-INFINITY), sum = (vec)(0.0f);
  for (int tile = 0; tile < 1; ++tile) {
    const int begin = 0;
    __global const float *restrict from = kp + begin * 3;
    vec a[5] = {(vec)(0.0f)};
    for (int d = 0; d < 3; ++d) {
      const vec f = query[d];
      #pragma unroll
      for (int t = 0; t < 5; ++t) {
        a[t] = (vec)(from[t * 3 + d * 1]) * f + a[t];
      }
    }
    #pragma unroll
    for (int t = 0; t < 5; ++t) {
      a[t] += (vec)(mp[m0 + (begin + t) * 1], mp[m1 + (begin + t) * 1], mp[m2 + (begin + t) * 1], mp[m3 + (begin + t) * 1]);
      score[begin + t] = a[t];
      top = top > a[t] ? top : a[t];
    }
  }
  for (int j = 0; j < 5; ++j) { score[j] = exp(score[j] - top); sum += score[j]; }
  const vec share = (vec)(1.0f) / sum;
  for (int tile = 0; tile < 1; ++tile) {
    const int begin = 0;
    __global const float *restrict from = vp + begin * 1;
    vec a[2] = {(vec)(0.0f)};
    for (int d = 0; d < 5; ++d) {
      const vec f = score[d];
      #pragma unroll
      for (int t = 0; t < 2; ++t) {
        a[t] = (vec)(from[t * 1 + d * 4]) * f + a[t];
      }
    }
    #pragma unroll
    for (int t = 0; t < 2; ++t) {
      result[begin + t] = a[t] * share;
    }
  }
  const float *lanes = (const float *)result;
  for (int lane = 0; lane < 3; ++lane) {
    for (int i = 0; i < 2; ++i) yp[(first + lane) * 2 + i * 1] = lanes[i * 4 + lane];
  }
}
