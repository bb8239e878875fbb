/* The two families of networks: ResNet (He et al. 2015, arXiv 1512.03385) in torchvision's variant, whose bottleneck
 * strides in its 3x3 convolution, and BYOL's MLP heads (Grill et al. 2020, arXiv 2006.07733). Names are torchvision's;
 * heads are named as the members of nn.Sequential(Linear, BatchNorm1d, ReLU, Linear).
 *
 * A block's shortcut is computed before its last convolution, so that the sum and the ReLU end that convolution. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/net.h"
#include "model/net_build.h"

static int push_conv(struct lk_net *net, int input, int residual, int out_c, int kernel, int stride, int relu,
                     const char *prefix, const char *name, const char *bn_name) {
    char full[48], bn_full[48];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    snprintf(bn_full, sizeof bn_full, "%s%s", prefix, bn_name);
    return lk_net__push(net, &(struct lk_node_spec){.kind = LK_NODE_CONV,
                                                    .input = input,
                                                    .residual = residual,
                                                    .out_c = out_c,
                                                    .kernel = kernel,
                                                    .stride = stride,
                                                    .bn = 1,
                                                    .relu = relu,
                                                    .name = full,
                                                    .bn_name = bn_full});
}

/* Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels. Returns the block's output edge. */
static int push_block(struct lk_net *net, int x, int in_c, int channels, int stride, int bottleneck, const char *name) {
    int out_c = bottleneck ? 4 * channels : channels, shortcut = x;
    int h = bottleneck ? push_conv(net, x, -1, channels, 1, 1, 1, name, "conv1", "bn1")
                       : push_conv(net, x, -1, channels, 3, stride, 1, name, "conv1", "bn1");
    if (h > 0 && bottleneck) {
        h = push_conv(net, h, -1, channels, 3, stride, 1, name, "conv2", "bn2");
    }
    if (h > 0 && (stride != 1 || in_c != out_c)) {
        shortcut = push_conv(net, x, -1, out_c, 1, stride, 0, name, "downsample.0", "downsample.1");
    }
    if (h < 0 || shortcut < 0) {
        return h < 0 ? h : shortcut;
    }
    return bottleneck ? push_conv(net, h, shortcut, out_c, 1, 1, 1, name, "conv3", "bn3")
                      : push_conv(net, h, shortcut, out_c, 3, 1, 1, name, "conv2", "bn2");
}

int lk_net__push_resnet(struct lk_net *net, const struct lk_arch *arch) {
    static const int blocks18[4] = {2, 2, 2, 2}, blocks34[4] = {3, 4, 6, 3};
    const int *blocks = arch->depth == 18 ? blocks18 : blocks34;
    int bottleneck = arch->depth == 50, cifar = arch->stem == LK_STEM_CIFAR;
    int x = push_conv(net, 0, -1, arch->width, cifar ? 3 : 7, cifar ? 1 : 2, 1, "", "conv1", "bn1");
    if (x > 0 && !cifar) {
        x = lk_net__push(
            net,
            &(struct lk_node_spec){
                .kind = LK_NODE_MAX_POOL, .input = x, .residual = -1, .kernel = 3, .stride = 2, .name = "maxpool"});
    }
    int in_c = arch->width;
    for (int stage = 0; stage < 4; stage++) {
        int channels = arch->width << stage;
        for (int b = 0; b < blocks[stage] && x > 0; b++) {
            char name[32];
            snprintf(name, sizeof name, "layer%d.%d.", stage + 1, b);
            x = push_block(net, x, in_c, channels, stage && !b ? 2 : 1, bottleneck, name);
            in_c = bottleneck ? 4 * channels : channels;
        }
    }
    if (x < 0) {
        return x;
    }
    return lk_net__push(
        net, &(struct lk_node_spec){.kind = LK_NODE_AVG_POOL, .input = x, .residual = -1, .name = "avgpool"});
}

static int push_linear(struct lk_net *net, int input, int out_c, int bn, int relu, const char *head, int index) {
    char name[48], bn_name[48];
    snprintf(name, sizeof name, "%s.%d", head, index);
    snprintf(bn_name, sizeof bn_name, "%s.%d", head, index + 1);
    return lk_net__push(net, &(struct lk_node_spec){.kind = LK_NODE_LINEAR,
                                                    .input = input,
                                                    .residual = -1,
                                                    .out_c = out_c,
                                                    .bn = bn,
                                                    .relu = relu,
                                                    .bias = !bn,
                                                    .name = name,
                                                    .bn_name = bn ? bn_name : NULL});
}

static int push_head(struct lk_net *net, int input, int hidden, int output, int bn, const char *head) {
    int h = push_linear(net, input, hidden, bn, 1, head, 0);
    return h < 0 ? h : push_linear(net, h, output, 0, 0, head, bn ? 3 : 2);
}

static int check_arch(const struct lk_arch *a) {
    if (a->depth != 18 && a->depth != 34 && a->depth != 50) {
        return lk_err(LK_EINVAL, "depth is %d, not 18, 34 or 50", a->depth);
    }
    if (a->width < 8 || a->width > 512 || a->width % 8) {
        return lk_err(LK_EINVAL, "width is %d, not a multiple of 8 in 8..512", a->width);
    }
    if (a->stem != LK_STEM_CIFAR && a->stem != LK_STEM_IMAGENET) {
        return lk_err(LK_EINVAL, "stem is %d, neither cifar nor imagenet", (int)a->stem);
    }
    if (a->image_size < 8 || a->image_size > 4096) {
        return lk_err(LK_EINVAL, "image size is %d, not in 8..4096", a->image_size);
    }
    return 0;
}

static int check_dim(const char *field, int value) {
    if (value < 16 || value > 65536 || value % 16) {
        return lk_err(LK_EINVAL, "%s is %d, not a multiple of 16 in 16..65536", field, value);
    }
    return 0;
}

static void mark(const struct lk_net *net, int *nodes, size_t *params, size_t *stats) {
    *nodes = net->n_nodes, *params = net->n_params, *stats = net->n_stats;
}

int lk_net_build(struct lk_net *out, const struct lk_arch *arch, const struct lk_heads *heads) {
    memset(out, 0, sizeof *out);
    int rc = check_arch(arch);
    if (rc || (heads && ((rc = check_dim("projector_hidden", heads->projector_hidden)) ||
                         (rc = check_dim("predictor_hidden", heads->predictor_hidden)) ||
                         (rc = check_dim("output", heads->output))))) {
        return rc;
    }
    out->image_size = arch->image_size;
    int x = lk_net__push_resnet(out, arch);
    if (x < 0) {
        rc = x;
        goto fail;
    }
    out->feature_dim = out->nodes[x - 1].out_c;
    mark(out, &out->backbone_nodes, &out->backbone_params, &out->backbone_stats);
    if (heads) {
        x = push_head(out, x, heads->projector_hidden, heads->output, heads->projector_bn, "projector");
    }
    mark(out, &out->teacher_nodes, &out->teacher_params, &out->teacher_stats);
    if (heads && x > 0) {
        x = push_head(out, x, heads->predictor_hidden, heads->output, heads->predictor_bn, "predictor");
    }
    if (x < 0) {
        rc = x;
        goto fail;
    }
    out->output_dim = out->nodes[x - 1].out_c;
    return 0;
fail:
    lk_net_free(out);
    return rc;
}
