#pragma once
// What mpi.h offers as macros that Swift does not import: handles, constants and special addresses.
#include <mpi.h>
#include <stdint.h>

static inline MPI_Comm acuity_mpi_comm_world(void) { return MPI_COMM_WORLD; }
static inline MPI_Comm acuity_mpi_comm_self(void) { return MPI_COMM_SELF; }
static inline MPI_Comm acuity_mpi_comm_null(void) { return MPI_COMM_NULL; }
static inline MPI_Request acuity_mpi_request_null(void) { return MPI_REQUEST_NULL; }
static inline MPI_Info acuity_mpi_info_null(void) { return MPI_INFO_NULL; }
static inline MPI_Errhandler acuity_mpi_errors_return(void) { return MPI_ERRORS_RETURN; }

static inline MPI_Datatype acuity_mpi_byte(void) { return MPI_BYTE; }
static inline MPI_Datatype acuity_mpi_float(void) { return MPI_FLOAT; }
static inline MPI_Datatype acuity_mpi_double(void) { return MPI_DOUBLE; }
static inline MPI_Datatype acuity_mpi_int64(void) { return MPI_INT64_T; }
static inline MPI_Datatype acuity_mpi_int32(void) { return MPI_INT32_T; }

static inline MPI_Op acuity_mpi_sum(void) { return MPI_SUM; }
static inline MPI_Op acuity_mpi_max(void) { return MPI_MAX; }
static inline MPI_Op acuity_mpi_min(void) { return MPI_MIN; }

static inline const void *acuity_mpi_in_place(void) { return MPI_IN_PLACE; }

/// Tests `request`; `complete` is set to 1 when the operation has ended.
static inline int acuity_mpi_test(MPI_Request *request, int *complete) {
    return MPI_Test(request, complete, MPI_STATUS_IGNORE);
}
