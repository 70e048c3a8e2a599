/* SPDX-License-Identifier: MIT
 * kernels/vulkan/activations.glsl: functions of one number; numbers as in quern/plugin.h. GLSL promises little for tanh near
 * zero and has no erf, so these are our own; exp is the device's. Polynomials as in kernels/cpu/polynomials.h, fitted there. */

float exact_tanh(float x)
{
    float s = x * x;
    if (s < 0.390625) {
        float p = (((-5.64828143e-3 * s + 2.05897912e-2) * s - 5.3725116e-2) * s + 0.133312747) * s - 0.333332747;
        return p * s * x + x;
    }
    float e = exp(-2.0 * abs(x)), y = (1.0 - e) / (1.0 + e);
    return x < 0.0 ? -y : y;
}

/* erfc of a number that is not negative */
float exact_erfc(float z)
{
    float t = 1.0 / (1.0 + 0.5 * z);
    float p = ((((((((0.15395692 * t - 0.730174303) * t + 1.27333093) * t - 0.852090001) * t + 4.91500013e-2) * t -
                   6.77632764e-2) * t + 5.81550486e-2) * t + 0.381703496) * t + 0.999207377) * t - 1.26547623;
    return t * exp(p - z * z);
}

/* x·Φ(x): the small tail is computed as such and not as a difference of large numbers */
float gelu(float x)
{
    float tail = 0.5 * exact_erfc(min(abs(x) * 0.70710678, 14.0));
    return x < 0.0 ? x * tail : x * (1.0 - tail);
}

/* x / (1 + e^-x): for large negative x the quotient is a number over infinity, and must stay −0 where that is what C gives */
float logistic(float x)
{
    return 1.0 / (1.0 + exp(-x > 88.0 ? 88.0 : -x)); /* not min, of which a NaN may come out as a number */
}

/* ln(1 + e^x), whose logarithm is a series where e^x is lost beside 1 */
float softplus(float x)
{
    float e = exp(-abs(x)), rest = e < 1e-3 ? e * (1.0 - 0.5 * e + e * e / 3.0) : log(1.0 + e);
    return max(x, 0.0) + rest;
}

float activate(uint act, float x)
{
    switch (act) {
    case 1u: return x * logistic(x);
    case 2u: return gelu(x);
    case 3u: { /* tanh written as a sigmoid: 0.5·(1 + tanh u) = sigmoid(2u) */
        float u = 0.79788456 * (x + 0.044715 * x * x * x);
        return x * logistic(2.0 * u);
    }
    case 4u: return x < 0.0 ? 0.0 : x;
    case 5u: return logistic(x);
    case 6u: return x * logistic(1.702 * x);
    case 7u: return softplus(x);
    default: return x;
    }
}

/* act(a)·b; 8: the clamped SwiGLU, which alone takes alpha and limit */
float gate(uint act, float a, float b, float alpha, float limit)
{
    if (act != 8u)
        return activate(act, a) * b;
    float g = a > limit ? limit : a, u = b > limit ? limit : b < -limit ? -limit : b; /* so that a NaN stays one */
    return g * logistic(alpha * g) * (u + 1.0);
}
