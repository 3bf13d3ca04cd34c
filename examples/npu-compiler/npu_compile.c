/* Compiles a model for an Intel NPU with the Windows build of OpenVINO, whose package brings Intel's compiler.
 *
 *   npu_compile.exe MODEL.xml PLATFORM OUTPUT.blob
 *
 * Against OpenVINO's C API (openvino/c, 2026.4); declared here is what is used of it. The compiler's log,
 * with its latency estimate, goes to the standard output.
 */
#include <stddef.h>
#include <stdio.h>

typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;
typedef struct ov_version {
    const char *buildNumber;
    const char *description;
} ov_version_t;
int ov_get_openvino_version(ov_version_t *);
int ov_core_create(ov_core_t **);
int ov_core_set_property(const ov_core_t *, const char *device, ...);
int ov_core_read_model(const ov_core_t *, const char *model, const char *weights, ov_model_t **);
int ov_core_compile_model(const ov_core_t *, const ov_model_t *, const char *device, size_t arguments,
                          ov_compiled_model_t **, ...);
int ov_compiled_model_export_model(const ov_compiled_model_t *, const char *path);
const char *ov_get_last_err_msg(void);

static int refused(const char *step)
{
    const char *why = ov_get_last_err_msg();
    fflush(stdout);
    printf("%s: ", step);
    for (; why && *why; why++)
        putchar(*why == '\n' || *why == '\r' ? ' ' : *why);
    printf("\n");
    return 1;
}

int main(int count, char **argument)
{
    ov_core_t *core = NULL;
    ov_model_t *model = NULL;
    ov_compiled_model_t *compiled = NULL;
    ov_version_t version = {0};
    if (count != 4) {
        printf("npu_compile.exe MODEL.xml PLATFORM OUTPUT.blob\n");
        return 2;
    }
    if (ov_core_create(&core))
        return refused("openvino");
    if (ov_core_set_property(core, "NPU", "LOG_LEVEL", "LOG_INFO"))
        return refused("the NPU plug-in");
    if (ov_core_read_model(core, argument[1], NULL, &model))
        return refused("reading the model");
    if (ov_core_compile_model(core, model, "NPU", 6, &compiled, "NPU_COMPILER_TYPE", "PLUGIN", "NPU_PLATFORM",
                              argument[2], "LOG_LEVEL", "LOG_INFO"))
        return refused("compiling");
    if (ov_compiled_model_export_model(compiled, argument[3]))
        return refused("writing");
    fflush(stdout);
    if (!ov_get_openvino_version(&version))
        printf("\ncompiler openvino %s\n", version.buildNumber);
    fflush(stdout);
    return 0;
}
