r"""Layers whose features are points of the Poincare ball :math:`\{x : c |x|^2 < 1\}`, c > 0 (van Spengler et al. 2023).

Features travel between layers as tangent vectors at the origin, channels along one dimension, so that pooling, rectifiers and dropout of
plain networks work on them; `exp0` gives their points. The operations, by the numbers that docstrings refer to:

(1) :math:`\lambda_x = 2 / (1 - c |x|^2)`
(2) :math:`x \oplus y = [(1 + 2c\langle x,y\rangle + c|y|^2) x + (1 - c|x|^2) y] / [1 + 2c\langle x,y\rangle + c^2 |x|^2 |y|^2]`
(3) :math:`\exp_0(v) = \tanh(\sqrt c |v|) v / (\sqrt c |v|)`
(4) :math:`\log_0(y) = \operatorname{artanh}(\sqrt c |y|) y / (\sqrt c |y|)`
(5) :math:`\exp_x(v) = x \oplus \exp_0(\lambda_x v / 2)`
(6) :math:`\log_x(y) = (2 / \lambda_x) \log_0(-x \oplus y)`
(7) :math:`d(x, y) = (2 / \sqrt c) \operatorname{artanh}(\sqrt c |{-x} \oplus y|)`
(8) :math:`T_{x \to y}(v) = (\lambda_x / \lambda_y) \operatorname{gyr}[y, -x] v`, with
:math:`\operatorname{gyr}[u,v]w = -(u \oplus v) \oplus (u \oplus (v \oplus w))`
(9) projection onto :math:`|x| \le (1 - \epsilon) / \sqrt c`
(10) hyperplane distances and linear layer (Hyperbolic Neural Networks++),
:math:`v_k = (2 |z_k| / \sqrt c) \operatorname{arsinh}(\sqrt c \lambda_x \langle x, z_k / |z_k| \rangle
\cosh(2 \sqrt c r_k) - (\lambda_x - 1) \sinh(2 \sqrt c r_k))`, :math:`w_k = \sinh(\sqrt c v_k) / \sqrt c`,
:math:`y = w / (1 + \sqrt{1 + c |w|^2})`
(11) convolution: (10) of the concatenated patch, whose tangent vector is scaled by
:math:`\beta = B(K C_{in} / 2, 1/2) / B(C_{in} / 2, 1/2)`
(12) identity initialization :math:`Z = I / 2, r = 0`
(13) midpoint :math:`\mu = \tfrac12 \otimes m, \; m = \sum_i w_i \lambda_i x_i / \sum_i w_i (\lambda_i - 1)`
(14) batch norm :math:`\exp_{g'}(\sqrt{s / (\sigma^2 + 10^{-6})} \; T_{\mu \to g'}(\log_\mu x_i))`,
:math:`\sigma^2 = \operatorname{mean} d(x_i, \mu)^2`
(15) residual :math:`f(x) \oplus x`

The numbers are of this list; the paper's own numbering is not repeated.
"""
