// Adds values to elements of an array, to an element as often as it is named:
//
//     x[places[k]] += values[order[k]]   for all k
//
// The places are sorted, so that all additions to an element stand in a row. A thread looks at one k; if a row begins
// there, it adds up the row and writes the element, alone and in a fixed order. (Atomic additions would come in the
// order in which the threads happen to arrive, and round differently each time.)
#include "common.cuh"

extern "C" __global__ void scatter(
    T* x,                     // the array
    const long long* places,  // (count,), where in x: sorted
    const long long* order,   // (count,), which value goes there
    const T* values,
    int count)
{
    int first = blockIdx.x * blockDim.x + threadIdx.x;
    if (first >= count || (first > 0 && places[first] == places[first - 1])) return;

    T sum = 0;
    for (int k = first; k < count && places[k] == places[first]; k++) sum += values[order[k]];
    x[places[first]] += sum;
}
