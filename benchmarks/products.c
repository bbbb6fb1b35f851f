/* The native kernel, and its matrix products alone: for benchmarks/products.py. */
#include "../specbench_s2d/models/engines/native.c"

static void products_of_thread(const Model *model, const Layer *layers, const Pass *pass, int64_t thread,
                               int64_t threads) {
  int64_t T = pass->rows, D = model->width, H = model->heads, C = model->head_width, F = model->inner;
  float *x = pass->scratch, *y = x + T * (F > H * C ? F : H * C);
  for (int64_t l = pass->from_layer; l < pass->to_layer; l++) {
    multiply(x, T, D, layers[l].qkv, NULL, y, (H + 2 * model->kv_heads) * C, STORE, thread, threads);
    multiply(x, T, H * C, layers[l].out, NULL, y, D, STORE, thread, threads);
    multiply(x, T, D, layers[l].gate_up, NULL, y, 2 * F, STORE, thread, threads);
    multiply(x, T, F, layers[l].down, NULL, y, D, STORE, thread, threads);
  }
  multiply(x, T, D, model->head, NULL, pass->logits, up(model->ids, LANES), STORE, thread, threads);
}

/* The matrix products of a pass and nothing else, over whatever the scratch holds. */
void run_products(const Model *model, const Layer *layers, const Pass *pass) {
  run_on_pool(products_of_thread, model, layers, pass);
}
