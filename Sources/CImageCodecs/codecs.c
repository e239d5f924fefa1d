#include "acuity_codecs.h"

#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

static ac_status fail(char *message, ac_status status, const char *text)
{
    snprintf(message, AC_MESSAGE_BYTES, "%s", text);
    return status;
}

ac_format ac_sniff(const uint8_t *bytes, size_t count)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    if (count >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) return AC_FORMAT_JPEG;
    if (count >= sizeof png && memcmp(bytes, png, sizeof png) == 0) return AC_FORMAT_PNG;
    return AC_FORMAT_UNKNOWN;
}

static ac_status check_pixels(long width, long height, const ac_limits *limits, char *message)
{
    if (width < 1 || height < 1) return fail(message, AC_CORRUPT, "the image is empty");
    if ((uint64_t)width > limits->pixels || (uint64_t)height > limits->pixels / (uint64_t)width
        || width > INT32_MAX || height > INT32_MAX) {
        snprintf(
            message, AC_MESSAGE_BYTES, "%ld x %ld pixels, more than the limit of %zu", width, height, limits->pixels);
        return AC_TOO_LARGE;
    }
    return AC_OK;
}

// ------------------------------------------------------------------------------------------------------------- JPEG

/// On success *handle is open and the caller destroys it.
static ac_status open_jpeg(
    const uint8_t *bytes, size_t count, const ac_limits *limits, ac_info *info, tjhandle *handle, char *message)
{
    *handle = tjInitDecompress();
    if (!*handle) return fail(message, AC_FAILED, "cannot start the JPEG decoder");
    int width = 0, height = 0, subsampling = 0, colours = 0;
    ac_status status;
    if (tjDecompressHeader3(*handle, bytes, (unsigned long)count, &width, &height, &subsampling, &colours) != 0)
        status = fail(message, AC_CORRUPT, tjGetErrorStr2(*handle));
    else if (colours == TJCS_CMYK || colours == TJCS_YCCK)
        status = fail(message, AC_UNSUPPORTED, "a CMYK JPEG (convert it to RGB)");
    else
        status = check_pixels(width, height, limits, message);
    if (status != AC_OK) {
        tjDestroy(*handle);
        *handle = NULL;
        return status;
    }
    info->format = AC_FORMAT_JPEG;
    info->width = width;
    info->height = height;
    info->grey = colours == TJCS_GRAY;
    return AC_OK;
}

/// The least size in steps of an eighth that covers the given one; the image's own where none does, or none is given.
static void reduce(ac_info *info, int cover_width, int cover_height)
{
    if (cover_width < 1 || cover_height < 1) return;
    for (int64_t eighths = 1; eighths < 8; eighths++) {
        const int width = (int)((info->width * eighths + 7) / 8), height = (int)((info->height * eighths + 7) / 8);
        if (width < cover_width || height < cover_height) continue;
        info->width = width;
        info->height = height;
        return;
    }
}

static ac_status decode_jpeg(
    const uint8_t *bytes, size_t count, const ac_limits *limits, int cover_width, int cover_height, uint8_t *rgb, int width,
    int height, ac_info *info, char *message)
{
    tjhandle handle;
    ac_status status = open_jpeg(bytes, count, limits, info, &handle, message);
    if (status != AC_OK) return status;
    reduce(info, cover_width, cover_height);
    if (info->width != width || info->height != height)
        status = fail(message, AC_OTHER_SIZE, "the buffer does not fit the image");
    else if (
        tjDecompress2(
            handle, bytes, (unsigned long)count, rgb, width, 3 * width, height, TJPF_RGB,
            TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT)
        != 0)
        status = fail(message, AC_CORRUPT, tjGetErrorStr2(handle));
    tjDestroy(handle);
    return status;
}

ac_status ac_encode_jpeg(
    const uint8_t *rgb, int width, int height, int quality, ac_subsampling subsampling, uint8_t **encoded,
    size_t *encoded_bytes, char message[AC_MESSAGE_BYTES])
{
    *encoded = NULL;
    *encoded_bytes = 0;
    if (width < 1 || height < 1 || width > 65500 || height > 65500)
        return fail(message, AC_TOO_LARGE, "a JPEG is 1 to 65500 pixels wide and high");
    if (quality < 1 || quality > 100) return fail(message, AC_FAILED, "JPEG quality is 1 to 100");
    int sampling = subsampling == AC_SUBSAMPLING_444 ? TJSAMP_444 : TJSAMP_420;
    unsigned long bytes = tjBufSize(width, height, sampling);
    unsigned char *buffer = bytes == (unsigned long)-1 ? NULL : malloc(bytes);
    tjhandle handle = tjInitCompress();
    ac_status status = AC_OK;
    if (!buffer || !handle)
        status = fail(message, AC_FAILED, "out of memory in the JPEG encoder");
    else if (
        tjCompress2(
            handle, rgb, width, 3 * width, height, TJPF_RGB, &buffer, &bytes, sampling, quality,
            TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC)
        != 0)
        status = fail(message, AC_FAILED, tjGetErrorStr2(handle));
    if (handle) tjDestroy(handle);
    if (status != AC_OK) {
        free(buffer);
        return status;
    }
    *encoded = buffer;
    *encoded_bytes = bytes;
    return AC_OK;
}

// -------------------------------------------------------------------------------------------------------------- PNG

/// On success the caller frees `image`.
static ac_status open_png(
    const uint8_t *bytes, size_t count, const ac_limits *limits, ac_info *info, png_image *image, char *message)
{
    memset(image, 0, sizeof *image);
    image->version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_memory(image, bytes, count)) {
        ac_status status = fail(message, AC_CORRUPT, image->message);
        png_image_free(image);
        return status;
    }
    // 16-bit samples are taken as sRGB, as other readers do, rather than as linear light. (Opening clears the flags.)
    image->flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    ac_status status = check_pixels((long)image->width, (long)image->height, limits, message);
    if (status != AC_OK) {
        png_image_free(image);
        return status;
    }
    info->format = AC_FORMAT_PNG;
    info->width = (int)image->width;
    info->height = (int)image->height;
    info->grey = !(image->format & PNG_FORMAT_FLAG_COLOR);
    return AC_OK;
}

static ac_status decode_png(
    const uint8_t *bytes, size_t count, const ac_limits *limits, uint8_t *rgb, int width, int height, ac_info *info,
    char *message)
{
    png_image image;
    ac_status status = open_png(bytes, count, limits, info, &image, message);
    if (status != AC_OK) return status;
    if (info->width != width || info->height != height) {
        png_image_free(&image);
        return fail(message, AC_OTHER_SIZE, "the buffer does not fit the image");
    }
    size_t pixels = (size_t)width * (size_t)height;
    // Asking for RGB would blend transparent pixels over a background; so read the alpha and leave it out.
    bool alpha = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
    uint8_t *target = alpha ? malloc(4 * pixels) : rgb;
    if (!target) {
        png_image_free(&image);
        return fail(message, AC_FAILED, "out of memory in the PNG decoder");
    }
    image.format = alpha ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
    if (!png_image_finish_read(&image, NULL, target, 0, NULL)) status = fail(message, AC_CORRUPT, image.message);
    png_image_free(&image);
    if (alpha) {
        if (status == AC_OK)
            for (size_t i = 0; i < pixels; i++) memcpy(rgb + 3 * i, target + 4 * i, 3);
        free(target);
    }
    return status;
}

ac_status ac_encode_png(
    const uint8_t *rgb, int width, int height, uint8_t **encoded, size_t *encoded_bytes,
    char message[AC_MESSAGE_BYTES])
{
    *encoded = NULL;
    *encoded_bytes = 0;
    if (width < 1 || height < 1 || width > 65500 || height > 65500)
        return fail(message, AC_TOO_LARGE, "a PNG is written 1 to 65500 pixels wide and high");
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)width;
    image.height = (png_uint_32)height;
    image.format = PNG_FORMAT_RGB;
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    uint8_t *buffer = malloc(bytes);
    if (!buffer) return fail(message, AC_FAILED, "out of memory in the PNG encoder");
    if (!png_image_write_to_memory(&image, buffer, &bytes, 0, rgb, 0, NULL)) {
        free(buffer);
        return fail(message, AC_FAILED, image.message);
    }
    *encoded = buffer;
    *encoded_bytes = bytes;
    return AC_OK;
}

// ----------------------------------------------------------------------------------------------------------- either

static ac_status check_input(const uint8_t *bytes, size_t count, const ac_limits *limits, ac_format *format, char *message)
{
    message[0] = 0;
    if (count > limits->encoded_bytes) {
        snprintf(
            message, AC_MESSAGE_BYTES, "%zu encoded bytes, more than the limit of %zu", count, limits->encoded_bytes);
        return AC_TOO_LARGE;
    }
    *format = ac_sniff(bytes, count);
    if (*format == AC_FORMAT_UNKNOWN)
        return fail(message, AC_UNKNOWN_FORMAT, count == 0 ? "no image bytes" : "neither JPEG nor PNG");
    return AC_OK;
}

ac_status ac_read_info(
    const uint8_t *bytes, size_t count, const ac_limits *limits, ac_info *info, char message[AC_MESSAGE_BYTES])
{
    memset(info, 0, sizeof *info);
    ac_format format;
    ac_status status = check_input(bytes, count, limits, &format, message);
    if (status != AC_OK) return status;
    if (format == AC_FORMAT_JPEG) {
        tjhandle handle;
        status = open_jpeg(bytes, count, limits, info, &handle, message);
        if (status == AC_OK) tjDestroy(handle);
        return status;
    }
    png_image image;
    status = open_png(bytes, count, limits, info, &image, message);
    if (status == AC_OK) png_image_free(&image);
    return status;
}

ac_status ac_decode_into(
    const uint8_t *bytes, size_t count, const ac_limits *limits, int cover_width, int cover_height, uint8_t *rgb, int width,
    int height, ac_info *info, char message[AC_MESSAGE_BYTES])
{
    memset(info, 0, sizeof *info);
    ac_format format;
    ac_status status = check_input(bytes, count, limits, &format, message);
    if (status != AC_OK) return status;
    return format == AC_FORMAT_JPEG
        ? decode_jpeg(bytes, count, limits, cover_width, cover_height, rgb, width, height, info, message)
        : decode_png(bytes, count, limits, rgb, width, height, info, message);
}

void ac_free(uint8_t *encoded) { free(encoded); }

const char *ac_png_version(void) { return png_get_libpng_ver(NULL); }
