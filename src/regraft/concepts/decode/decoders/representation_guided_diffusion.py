"""Representation-guided diffusion: an image is drawn from its own embedding by a self-supervised encoder."""

from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples
from regraft.concepts.decode.pictures import Rows
from regraft.method import Paper


class RepresentationGuidedDiffusion(EmbeddingDecoder):
    r"""A (latent) diffusion model that attends to the embedding of the image.

    An embedding z of a frozen encoder becomes one token, :math:`W z / \lVert z \rVert + b`, to which the U-Net attends; a second level,
    the embedding of the region around the image, becomes a second one. W, b and the U-Net are trained together on the noise,

    .. math:: \lVert \epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t} x + \sqrt{1 - \bar\alpha_t} \epsilon, t, c(z)) \rVert^2,

    with T = 1000 steps and the root of beta linear from that of 0.0015 to that of 0.0195. With probability `p_uncond` z is the zero vector,
    before it is normalized, so that the token of no embedding is b. Images are flipped at random and keep the z of the image as it was.
    Encoder and autoencoder stay as they are.
    """

    paper = Paper("Learned representation-guided diffusion models for large-image generation", "Graikos et al.", 2024, "2312.07330")
    summary = "an image from its own embedding, by cross-attention to one token"

    def conditions(self, examples: Examples) -> tuple[Rows, tuple[int, ...]]:
        return examples.embeddings, examples.levels
