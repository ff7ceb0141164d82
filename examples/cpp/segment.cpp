// A mask of what a point or a box means, by ONNX Runtime's C API and the files of `mobilesam export onnx`.
//
//   c++ -std=c++17 -O2 segment.cpp -o segment -I INCLUDE -L LIB -l onnxruntime
//   ./segment onnx photo.ppm mask.pgm 210 140             a point: x y
//   ./segment onnx photo.ppm mask.pgm 120 40 380 300      a box: x0 y0 x1 y1
//
// Photo and mask are binary PPM and PGM, so that nothing else is needed: `convert photo.jpg photo.ppm`.
// docs/how-to/export.md tells more; docs/reference/onnx.md says what the files take and give.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

namespace {

constexpr int kSide = 768, kView = 512, kPaddedTo = 96;  // pocket's input, what its decoder reads of it, and steps
constexpr float kMean[3] = {123.675f, 116.28f, 103.53f}, kStd[3] = {58.395f, 57.12f, 57.375f};

const OrtApi* ort = nullptr;

void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::string message = ort->GetErrorMessage(status);
  ort->ReleaseStatus(status);
  throw std::runtime_error(message);
}

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
  int64_t size(size_t i) const { return shape.at(i); }
};

using Tensors = std::map<std::string, Tensor>;

// A session with the names of what it takes and gives.
class Graph {
 public:
  Graph(OrtEnv* env, const std::string& path) {
    OrtSessionOptions* options = nullptr;
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(env, path.c_str(), options, &session_));
    ort->ReleaseSessionOptions(options);
    check(ort->GetAllocatorWithDefaultOptions(&allocator_));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
    size_t count = 0;
    check(ort->SessionGetInputCount(session_, &count));
    for (size_t i = 0; i < count; ++i) inputs_.push_back(name(i, true));
    check(ort->SessionGetOutputCount(session_, &count));
    for (size_t i = 0; i < count; ++i) outputs_.push_back(name(i, false));
  }

  ~Graph() {
    ort->ReleaseMemoryInfo(memory_);
    ort->ReleaseSession(session_);
  }

  Graph(const Graph&) = delete;

  // Takes what it needs of the given tensors; mask_tokens are the one input of whole numbers.
  Tensors run(Tensors& given, std::vector<int64_t> mask_tokens = {}) {
    std::vector<OrtValue*> in, out(outputs_.size(), nullptr);
    std::vector<const char*> in_names, out_names;
    const int64_t tokens[1] = {static_cast<int64_t>(mask_tokens.size())};
    for (const std::string& name : inputs_) {
      OrtValue* value = nullptr;
      if (name == "mask_tokens") {
        check(ort->CreateTensorWithDataAsOrtValue(memory_, mask_tokens.data(), mask_tokens.size() * sizeof(int64_t), tokens,
                                                  1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &value));
      } else {
        Tensor& t = given.at(name);
        check(ort->CreateTensorWithDataAsOrtValue(memory_, t.values.data(), t.values.size() * sizeof(float), t.shape.data(),
                                                  t.shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
      }
      in.push_back(value);
      in_names.push_back(name.c_str());
    }
    for (const std::string& name : outputs_) out_names.push_back(name.c_str());
    check(ort->Run(session_, nullptr, in_names.data(), in.data(), in.size(), out_names.data(), out.size(), out.data()));
    Tensors found;
    for (size_t i = 0; i < out.size(); ++i) found[outputs_[i]] = copy(out[i]);
    for (OrtValue* value : in) ort->ReleaseValue(value);
    for (OrtValue* value : out) ort->ReleaseValue(value);
    return found;
  }

 private:
  std::string name(size_t i, bool input) {
    char* text = nullptr;
    check(input ? ort->SessionGetInputName(session_, i, allocator_, &text)
                : ort->SessionGetOutputName(session_, i, allocator_, &text));
    std::string copied = text;
    check(ort->AllocatorFree(allocator_, text));
    return copied;
  }

  static Tensor copy(OrtValue* value) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(ort->GetTensorTypeAndShape(value, &info));
    Tensor t;
    size_t count = 0;
    check(ort->GetDimensionsCount(info, &count));
    t.shape.resize(count);
    check(ort->GetDimensions(info, t.shape.data(), count));
    check(ort->GetTensorShapeElementCount(info, &count));
    ort->ReleaseTensorTypeAndShapeInfo(info);
    float* data = nullptr;
    check(ort->GetTensorMutableData(value, reinterpret_cast<void**>(&data)));
    t.values.assign(data, data + count);
    return t;
  }

  OrtSession* session_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  std::vector<std::string> inputs_, outputs_;
};

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Image image;
  std::string kind;
  int most = 0;
  file >> kind >> image.width >> image.height >> most;
  file.get();
  const bool fits = image.width > 0 && image.height > 0 && image.width <= 16384 && image.height <= 16384;
  if (!file || kind != "P6" || most != 255 || !fits) throw std::runtime_error(path + ": give a binary PPM (P6, 255)");
  image.rgb.resize(size_t(image.width) * image.height * 3);
  file.read(reinterpret_cast<char*>(image.rgb.data()), std::streamsize(image.rgb.size()));
  if (!file) throw std::runtime_error(path + ": ends too early");
  return image;
}

// Resizes columns or rows as Pillow does, bilinear with antialiasing, and rounds.
Image resize_axis(const Image& in, int length, bool columns) {
  const int old_length = columns ? in.width : in.height;
  const double scale = double(old_length) / length, reach = std::max(scale, 1.0);
  Image out = in;
  (columns ? out.width : out.height) = length;
  out.rgb.resize(size_t(out.width) * out.height * 3);
  for (int i = 0; i < length; ++i) {
    const double middle = (i + 0.5) * scale;
    const int first = std::max(0, int(middle - reach + 0.5)), last = std::min(old_length, int(middle + reach + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int k = first; k < last; ++k) {
      weights.push_back(std::max(0.0, 1 - std::abs((k + 0.5 - middle) / reach)));
      sum += weights.back();
    }
    const int others = columns ? in.height : in.width;
    for (int j = 0; j < others; ++j) {
      for (int c = 0; c < 3; ++c) {
        double value = 0;
        for (int k = first; k < last; ++k) {
          const size_t place = columns ? size_t(j) * in.width + k : size_t(k) * in.width + j;
          value += weights[size_t(k - first)] * in.rgb[3 * place + c];
        }
        const size_t place = columns ? size_t(j) * out.width + i : size_t(i) * out.width + j;
        out.rgb[3 * place + c] = uint8_t(std::clamp(value / sum + 0.5, 0.0, 255.0));
      }
    }
  }
  return out;
}

int padded(int side) { return std::min(kSide, (side + kPaddedTo - 1) / kPaddedTo * kPaddedTo); }

Tensor normalise(const Image& image) {
  const int height = padded(image.height), width = padded(image.width);
  Tensor pixels{{1, 3, height, width}, std::vector<float>(size_t(3) * height * width, 0.0f)};
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < image.height; ++y)
      for (int x = 0; x < image.width; ++x) {
        const float value = image.rgb[3 * (size_t(y) * image.width + x) + c];
        pixels.values[(size_t(c) * height + y) * width + x] = (value - kMean[c]) / kStd[c];
      }
  return pixels;
}

// Enlarges the upper left (rows, columns) of a map bilinearly, as PyTorch's interpolate does.
std::vector<float> enlarge(const std::vector<float>& map, int stride, int rows, int columns, int height, int width) {
  std::vector<float> out(size_t(height) * width);
  for (int y = 0; y < height; ++y) {
    const double v = std::clamp((y + 0.5) * rows / height - 0.5, 0.0, rows - 1.0);
    const int top = int(v), bottom = std::min(top + 1, rows - 1);
    for (int x = 0; x < width; ++x) {
      const double u = std::clamp((x + 0.5) * columns / width - 0.5, 0.0, columns - 1.0);
      const int left = int(u), right = std::min(left + 1, columns - 1);
      auto at = [&](int row, int column) { return double(map[size_t(row) * stride + column]); };
      const double above = at(top, left) + (u - left) * (at(top, right) - at(top, left));
      const double below = at(bottom, left) + (u - left) * (at(bottom, right) - at(bottom, left));
      out[size_t(y) * width + x] = float(above + (v - top) * (below - above));
    }
  }
  return out;
}

void segment(const std::string& folder, const std::string& photo, const std::string& result, const std::vector<double>& prompt) {
  const Image image = read_ppm(photo);
  const double scale = double(kSide) / std::max(image.width, image.height);
  const int width = std::max(1, int(image.width * scale + 0.5)), height = std::max(1, int(image.height * scale + 0.5));
  const Image small = resize_axis(resize_axis(image, width, true), height, false);

  OrtEnv* env = nullptr;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "mobilesam", &env));
  Tensors arrays;
  {
    Graph encoder(env, folder + "/pocket-encoder.onnx");
    arrays["pixels"] = normalise(small);
    arrays = encoder.run(arrays);
  }
  for (const char* name : {"coarse_embedding", "image_embedding", "skip_stride4"})  // the view of the whole
    arrays[name] = arrays.at(std::string("whole_") + name);

  const bool is_box = prompt.size() == 4;
  Tensor coords{{1, 2, 2}, std::vector<float>(4, 0.0f)}, labels{{1, 2}, {1, -1}};  // a point and a pad
  if (is_box) labels.values = {2, 3};
  for (size_t i = 0; i < prompt.size(); ++i) {
    const double pixel = prompt[i] * (i % 2 == 0 ? double(width) / image.width : double(height) / image.height);
    coords.values[i] = float((pixel + 0.5) * kView / kSide - 0.5);
  }
  arrays["point_coords"] = coords;
  arrays["point_labels"] = labels;
  Graph decoder(env, folder + "/pocket-decoder.onnx");
  const std::vector<int64_t> tokens = is_box ? std::vector<int64_t>{0} : std::vector<int64_t>{1, 2, 3};
  Tensors found = decoder.run(arrays, tokens);

  const std::vector<float>& ious = found.at("iou_predictions").values;
  const int best = int(std::max_element(ious.begin(), ious.end()) - ious.begin());
  const Tensor& masks = found.at("low_res_masks");
  const int rows = int(masks.size(2)), columns = int(masks.size(3));
  const std::vector<float> logits(masks.values.begin() + long(best) * rows * columns,
                                  masks.values.begin() + long(best + 1) * rows * columns);
  const std::vector<float> input = enlarge(logits, columns, rows, columns, 2 * rows, 2 * columns);
  const std::vector<float> full = enlarge(input, 2 * columns, height, width, image.height, image.width);

  std::ofstream file(result, std::ios::binary);
  file << "P5\n" << image.width << " " << image.height << "\n255\n";
  for (float logit : full) file.put(logit > 0 ? char(255) : char(0));
  if (!file.flush()) throw std::runtime_error(result + ": cannot be written");
  std::printf("predicted IoU %.4f\n", ious[size_t(best)]);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6 && count != 8) {
    std::fprintf(stderr, "usage: segment FOLDER photo.ppm mask.pgm X Y | X0 Y0 X1 Y1\n");
    return 2;
  }
  std::vector<double> prompt;
  for (int i = 4; i < count; ++i) prompt.push_back(std::atof(arguments[i]));
  try {
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == nullptr) throw std::runtime_error("this ONNX Runtime is older than its header");
    segment(arguments[1], arguments[2], arguments[3], prompt);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
