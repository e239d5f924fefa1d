// JPEG and PNG in memory, through libturbojpeg and libpng, for bytes that nobody vouches for.
//
// Every function is reentrant, returns a status and, when it fails, leaves one line of text in `message`. Sizes are
// checked against limits before anything is allocated for the pixels, and no longjmp of either library crosses this
// surface. Pixels are 8-bit RGB, rows from the top, three interleaved bytes, no padding between rows.
#ifndef ACUITY_CODECS_H
#define ACUITY_CODECS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    AC_OK = 0,
    AC_UNKNOWN_FORMAT = 1, // neither JPEG nor PNG
    AC_TOO_LARGE = 2,      // over one of the limits
    AC_CORRUPT = 3,        // damaged or truncated
    AC_UNSUPPORTED = 4,    // sound, but of a kind that is not read (CMYK JPEG)
    AC_FAILED = 5,         // out of memory, or an encoder's failure
    AC_OTHER_SIZE = 6,     // the buffer given is not of the image's size; try again with one that is
} ac_status;

typedef enum { AC_FORMAT_UNKNOWN = 0, AC_FORMAT_JPEG = 1, AC_FORMAT_PNG = 2 } ac_format;

typedef enum { AC_SUBSAMPLING_444 = 0, AC_SUBSAMPLING_420 = 1 } ac_subsampling;

typedef struct {
    size_t encoded_bytes; // longest accepted input
    size_t pixels;        // largest accepted width x height
} ac_limits;

typedef struct {
    ac_format format;
    int width, height;
    bool grey; // one channel in the file
} ac_info;

enum { AC_MESSAGE_BYTES = 256 };

/// The format that the first bytes announce.
ac_format ac_sniff(const uint8_t *bytes, size_t count);

/// Reads the header only.
ac_status ac_read_info(
    const uint8_t *bytes, size_t count, const ac_limits *limits, ac_info *info, char message[AC_MESSAGE_BYTES]);

/// Decodes to RGB, in memory of width x height pixels that the caller uses again. When the image has another size nothing is
/// decoded: the status is AC_OTHER_SIZE, and `info` says which. A JPEG is decoded smaller than it is, at the least of 1/8,
/// 2/8, … at which it still covers cover_width x cover_height (0: as it is); that size counts then, in `info` too.
///
/// Any warning of the JPEG decoder (truncation, bad codes, stray bytes) is an error. Grey is repeated over the three
/// channels; an alpha channel is dropped, not blended, as PIL's convert("RGB") and OpenCV do.
///
/// Every call has a decoder of its own. One that is used again keeps the tables of earlier images, and an image that has
/// lost its own to damage would be decoded with them instead of refused.
ac_status ac_decode_into(
    const uint8_t *bytes, size_t count, const ac_limits *limits, int cover_width, int cover_height, uint8_t *rgb, int width,
    int height, ac_info *info, char message[AC_MESSAGE_BYTES]);

/// Encode; *encoded is to be freed with ac_free. JPEG quality 1...100, accurate integer DCT (what Pillow writes).
ac_status ac_encode_jpeg(
    const uint8_t *rgb, int width, int height, int quality, ac_subsampling subsampling, uint8_t **encoded,
    size_t *encoded_bytes, char message[AC_MESSAGE_BYTES]);
ac_status ac_encode_png(
    const uint8_t *rgb, int width, int height, uint8_t **encoded, size_t *encoded_bytes,
    char message[AC_MESSAGE_BYTES]);
void ac_free(uint8_t *encoded);

/// Planes of width x height floats (v - mean) / scale, one for each byte of a pixel, from rows of RGB pixels that begin
/// row_bytes apart; mirrored left to right if asked for. The same bits with every instruction set.
void ac_planes(
    const uint8_t *rgb, size_t row_bytes, int width, int height, bool mirrored, float mean, float scale, float *first,
    float *second, float *third);

/// The versions of the libraries, for reports.
const char *ac_png_version(void);

#ifdef __cplusplus
}
#endif
#endif
