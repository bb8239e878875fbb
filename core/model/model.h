/* A model file: a backbone's description and weights, as the trainer writes and the server loads it. Tensor names and
 * shapes are torchvision's; our own metadata is optional, so that a torchvision or timm ResNet saved as safetensors
 * serves too (architecture, stem and width are then read off the shapes; fc.* and num_batches_tracked are ignored). */
#ifndef LK_MODEL_MODEL_H
#define LK_MODEL_MODEL_H

#include "model/net.h"
#include "model/safetensors.h"

struct lk_model {
    struct lk_arch arch;
    struct lk_net net;               /* backbone only */
    float *params, *stats;           /* host arenas of net, owned */
    float mean[3], std[3];           /* normalisation of pixels in 0..1 */
    int resize;                      /* short side before the centre crop */
    char name[128];                  /* stable name: metadata "name", else the file's stem */
    char method[32];                 /* "byol", "" when unknown */
    char **meta_keys, **meta_values; /* all metadata, owned */
    size_t n_meta;
    uint8_t fingerprint[32]; /* SHA-256 over canonical float32 tensors in name order, architecture and preprocessing
                                (version, image size, resize, mean, std): always recomputed */
};

/* Tensors that the network has no place for (squeeze-and-excitation, ...) make a file LK_EUNSUPPORTED, since it is then
 * another network; values that are not finite, and metadata that contradicts the shapes, LK_EFORMAT. Metadata other
 * than "likeness.format" is read only beside it.
 * image_size 0: the file's metadata, else 32 for the CIFAR stem and 224 for ImageNet's. LK_EFORMAT (no valid file),
 * LK_EUNSUPPORTED (valid, but not a ResNet that we know; says which tensor is missing or of the wrong shape). */
int lk_model_load(struct lk_model *out, const char *path, int image_size);
void lk_model_free(struct lk_model *model); /* accepts a zeroed one */

/* Writes net's backbone prefix with the metadata that lk_model_load understands ("likeness.format" = "1",
 * architecture, stem, width, image_size, resize, mean, std, method, preprocess, fingerprint) plus the caller's extra
 * pairs (data hash, epochs, kNN). dtype LK_DTYPE_F32 or LK_DTYPE_BF16 (batch norm's
 * vectors stay F32). Atomic. */
int lk_model_save(const char *path, const struct lk_arch *arch, const struct lk_net *net, const float *params,
                  const float *stats, const float mean[3], const float std[3], const char *name, const char *method,
                  enum lk_dtype dtype, const char *const *extra_keys, const char *const *extra_values, size_t n_extra);

/* The space of vectors that this model makes in a precision class: SHA-256 over fingerprint, preprocessing version and
 * "f32", "bf16" or "int8", as hex. */
void lk_model_space(const struct lk_model *model, const char *precision_class, char hex[65]);

#endif
